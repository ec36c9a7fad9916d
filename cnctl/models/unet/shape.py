"""Shapes of U-Nets, which distinguish families: what a ControlNet and its base have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.unet.known import find_known

INPAINTING_CHANNELS = 9
"""Latents, the latents of a masked image, and the mask."""


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
    text_width, widths, layers, channels = shape = _shape(config)
    known = find_known(widths, text_width, layers=layers)
    if known and channels == known.latents:
        return Shape(known.name, *shape)
    if known and channels == INPAINTING_CHANNELS:
        return Shape(f"{known.name} inpainting", *shape)
    return Shape(f"U-Net {'-'.join(map(str, widths))} with text width {text_width}", *shape)


def check_reads_latents(config: Mapping[str, Any], name: str) -> None:
    """Raise CnctlError for the U-Net of a base, of this name, that reads more than latents."""
    read, made = config.get("in_channels", 4), config.get("out_channels", 4)
    if read == made:
        return
    inpaints = read == INPAINTING_CHANNELS
    what = "is made for inpainting" if inpaints else f"reads {read} channels, of which {made}"
    more = "and reads a mask beside the latents" if inpaints else "are latents"
    edits = "; any base inpaints by --image and --mask" if inpaints else ""
    raise CnctlError(f"{name} {what} {more}", hint=f"give the base that it was made from{edits}")


def check_same_shape(control: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raise CnctlError when a ControlNet's config does not fit a U-Net's."""
    made_for, used_with = shape_of(control), shape_of(base)
    if made_for != used_with:
        raise CnctlError(
            f"this ControlNet was made for {made_for.name}; the base is {used_with.name}",
            hint=f"choose a base of {made_for.name}, or a ControlNet for {used_with.name}",
        )


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
