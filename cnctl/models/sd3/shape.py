"""Shapes of SD3's transformers, which distinguish its families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.transformer.shapes import choose_another

DEFAULTS: Mapping[str, Any] = {
    "in_channels": 16,
    "patch_size": 2,
    "num_attention_heads": 18,
    "attention_head_dim": 64,
    "pooled_projection_dim": 2048,
    "joint_attention_dim": 4096,
    "qk_norm": None,
}
"""What diffusers takes for fields that a config leaves out."""


HEAD_WIDTH = 64
"""Of all that are published."""


@dataclass(frozen=True, kw_only=True)
class KnownFamily:
    """A family: what distinguishes it, and its model card's settings."""

    name: str
    heads: int
    head_width: int = HEAD_WIDTH
    normalised: bool
    """Whether attention normalises queries and keys, as 3.5 does."""
    steps: int
    guidance_scale: float


KNOWN = (
    KnownFamily(name="SD3 medium", heads=24, normalised=False, steps=28, guidance_scale=7.0),
    KnownFamily(name="SD3.5 medium", heads=24, normalised=True, steps=40, guidance_scale=4.5),
    KnownFamily(name="SD3.5 large", heads=38, normalised=True, steps=28, guidance_scale=3.5),
    KnownFamily(
        name="tiny-flow", heads=4, head_width=32, normalised=True, steps=20, guidance_scale=3.0
    ),
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a ControlNet and its base must have in common.

    text_width and normalised: None for a ControlNet that reads no text, which has neither.
    """

    name: str = field(compare=False)
    latent_channels: int
    patch_size: int
    heads: int
    head_width: int
    pooled_width: int
    text_width: int | None
    normalised: bool | None


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape of a transformer or a ControlNet, from its diffusers config."""
    known = {name: config.get(name, default) for name, default in DEFAULTS.items()}
    reads_text = known["joint_attention_dim"] is not None
    normalised = known["qk_norm"] is not None if reads_text else None
    return Shape(
        name=_name(known["num_attention_heads"], known["attention_head_dim"], normalised),
        latent_channels=known["in_channels"],
        patch_size=known["patch_size"],
        heads=known["num_attention_heads"],
        head_width=known["attention_head_dim"],
        pooled_width=known["pooled_projection_dim"],
        text_width=known["joint_attention_dim"],
        normalised=normalised,
    )


def find_known(name: str) -> KnownFamily | None:
    """The published family of this name."""
    return next((family for family in KNOWN if family.name == name), None)


def check_same_shape(control: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raise CnctlError where a ControlNet's config does not fit a transformer's."""
    made_for, used_with = shape_of(control), shape_of(base)
    differing = [
        f"{name.replace('_', ' ')} {own}, not {theirs}"
        for name in Shape.__dataclass_fields__
        if name != "name"
        and (own := getattr(made_for, name)) is not None
        and own != (theirs := getattr(used_with, name))
    ]
    if not differing:
        return
    same = made_for.name == used_with.name
    what = f"a base with {differing[0]}" if same else made_for.name
    raise CnctlError(
        f"this ControlNet was made for {what}; the base is {used_with.name}",
        hint=choose_another(made_for.name, used_with.name),
    )


def _name(heads: int, head_width: int, normalised: bool | None) -> str:
    """Of the published family; of a ControlNet that reads no text, the first that may be meant."""
    for family in KNOWN:
        fits = (family.heads, family.head_width) == (heads, head_width)
        if fits and normalised in (family.normalised, None):
            return family.name
    generation = "3.5" if normalised else "3"
    return f"SD{generation} with {heads} heads of width {head_width}"
