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


def name_family(config: Mapping[str, Any]) -> str:
    """What people call bases of this shape."""
    heads, width = config.get("num_attention_heads", 24), config.get("attention_head_dim", 128)
    return NAME if (heads, width) == (24, 128) else f"{NAME} with {heads} heads of width {width}"


def check_same_shape(control: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raise CnctlError where a ControlNet's config does not fit a transformer's."""
    check_equal(control, base, SHAPE, name_family=name_family)
