"""Shapes of Qwen-Image's transformers, which must be those of their ControlNets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnctl.models.transformer.shapes import check_equal

NAME = "Qwen-Image"
SHAPE: Mapping[str, tuple[str, Any]] = {
    "in_channels": ("channels of packed latents", 64),
    "num_attention_heads": ("heads", 24),
    "attention_head_dim": ("head width", 128),
    "joint_attention_dim": ("text width", 3584),
}
"""Field of a config -> what it counts, and what diffusers takes where it is left out."""
WIDTH = 3072
"""Of tokens: heads times their width."""
BLOCKWISE: Mapping[str, tuple[str, Any]] = {
    "inner_dim": ("width", WIDTH),
    "num_layers": ("blocks", 60),
    "in_channels": SHAPE["in_channels"],
}
"""The same for ControlNets with a block after each of the base's."""


def name_family(config: Mapping[str, Any]) -> str:
    """What people call bases of this shape."""
    heads, width = config.get("num_attention_heads", 24), config.get("attention_head_dim", 128)
    return NAME if (heads, width) == (24, 128) else f"{NAME} with {heads} heads of width {width}"


def check_same_shape(control: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raise CnctlError where a ControlNet's config does not fit a transformer's."""
    check_equal(control, base, SHAPE, name_family=name_family)


def name_by_width(config: Mapping[str, Any]) -> str:
    """What people call bases with tokens of this width."""
    width = config["inner_dim"]
    return NAME if width == WIDTH else f"{NAME} of width {width}"


def check_same_blocks(control: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raise CnctlError where a blockwise ControlNet's config does not fit a transformer's."""
    width = base.get("num_attention_heads", 24) * base.get("attention_head_dim", 128)
    check_equal(control, {**base, "inner_dim": width}, BLOCKWISE, name_family=name_by_width)
