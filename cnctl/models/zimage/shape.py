"""Shapes of Z-Image's transformers and ControlNets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.transformer.shapes import choose_another

DEFAULTS: Mapping[str, Any] = {
    "all_f_patch_size": [1],
    "all_patch_size": [2],
    "dim": 3840,
    "in_channels": 16,
    "n_heads": 30,
    "n_layers": 30,
    "n_refiner_layers": 2,
}
"""What diffusers takes for fields that a config leaves out."""
PATCH_SIZE = 2
"""Latents per token along a side, in all published ones."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a ControlNet and its base must have in common."""

    name: str = field(compare=False)
    width: int
    heads: int
    refiner_layers: int


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape of a transformer or a ControlNet, from its diffusers config."""
    known = with_defaults(config)
    width, heads = known["dim"], known["n_heads"]
    published = (width, heads) == (DEFAULTS["dim"], DEFAULTS["n_heads"])
    return Shape(
        name="Z-Image" if published else f"Z-Image with {heads} heads of width {width // heads}",
        width=width,
        heads=heads,
        refiner_layers=known["n_refiner_layers"],
    )


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this program reads."""
    return {name: config.get(name, default) for name, default in DEFAULTS.items()}


def check_same_shape(control: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raise CnctlError where a ControlNet's config does not fit a transformer's."""
    made_for, used_with = shape_of(control), shape_of(base)
    if made_for != used_with:
        what = _difference(made_for, used_with)
        raise CnctlError(
            f"this ControlNet was made for {what}; the base is {used_with.name}",
            hint=choose_another(made_for.name, used_with.name),
        )
    transformer = with_defaults(base)
    last, layers = max(control["control_layers_places"]), transformer["n_layers"]
    if last >= layers:
        raise CnctlError(
            f"this ControlNet acts on layer {last}; the base's {layers} are counted from 0",
            hint="choose the base that it was made for",
        )
    read, latents = control["control_in_dim"], transformer["in_channels"]
    if read not in (latents, inpainting_channels(latents)):
        raise CnctlError(
            f"this ControlNet reads hints of {read} latent channels; the base has {latents}",
            hint="choose the base that it was made for",
        )


def inpainting_channels(latents: int) -> int:
    """Channels of a hint with a mask and the latents of an image beside it."""
    return 2 * latents + 1


def _difference(made_for: Shape, used_with: Shape) -> str:
    if made_for.name != used_with.name:
        return made_for.name
    return f"a base with {made_for.refiner_layers} refiner layers"
