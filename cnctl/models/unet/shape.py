"""Shapes of U-Nets, which tell families apart: what a ControlNet and its base have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.locate import EMBEDDED, read_json

REFINER = "SDXL refiner"
FAMILY_NAMES: dict[tuple[int, tuple[int, ...], int], str] = {
    (768, (320, 640, 1280, 1280), 2): "SD 1.x",
    (1024, (320, 640, 1280, 1280), 2): "SD 2.x",
    (2048, (320, 640, 1280), 2): "SDXL",
    (1280, (384, 768, 1536, 1536), 2): REFINER,
}
"""Families by text width, block channels and layers per block."""


@dataclass(frozen=True)
class Shape:
    """What a ControlNet and its base must have in common. Two are equal whatever their names."""

    name: str = field(compare=False)
    text_width: int
    block_channels: tuple[int, ...]
    layers_per_block: int
    latent_channels: int


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape of a U-Net or a ControlNet, from its diffusers config."""
    shape = _shape(config)
    if shape == _embedded_shape():
        return Shape("tiny", *shape)
    text_width, widths, layers, channels = shape
    name = FAMILY_NAMES.get((text_width, widths, layers))
    if name and channels == 9:
        name = f"{name} inpainting"
    elif not name or channels != 4:
        name = f"U-Net {'-'.join(map(str, widths))} with text width {text_width}"
    return Shape(name, *shape)


def check_same_shape(control: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raise CnctlError when a ControlNet's config does not fit a U-Net's."""
    made_for, used_with = shape_of(control), shape_of(base)
    if made_for != used_with:
        raise CnctlError(
            f"this ControlNet was made for {made_for.name}; the base is {used_with.name}",
            hint=f"choose a base of {made_for.name}, or a ControlNet for {used_with.name}",
        )


@lru_cache
def _embedded_shape() -> tuple | None:
    config = EMBEDDED / "unet" / "config.json"
    return _shape(read_json(config)) if config.is_file() else None


def _shape(config: Mapping[str, Any]) -> tuple[int, tuple[int, ...], int, int]:
    try:
        widths = tuple(config["block_out_channels"])
        # diffusers leaves out what equals its own defaults in some hand-written configs.
        layers, channels = config.get("layers_per_block", 2), config.get("in_channels", 4)
        return config["cross_attention_dim"], widths, layers, channels
    except KeyError as error:
        raise CnctlError(
            f"the config has no {error.args[0]!r}, so it is neither a U-Net's nor a ControlNet's",
            hint="give a folder that diffusers has written",
        ) from error
