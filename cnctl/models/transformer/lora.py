"""What LoRAs call the layers of a base with a transformer, in the original's names too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

from cnctl.models.lora import LoraNames, Place, Shapes, flatten
from cnctl.models.transformer.base_file import PART

OF_TRANSFORMER = (
    "lora_transformer_",
    "lora_unet_",
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
)
"""What kohya's trainers, peft, ComfyUI, ai-toolkit and diffusers write before its layers."""

Layers = Mapping[str, tuple[str, ...]]
"""A layer of the original -> diffusers' layers, whose rows together are its rows."""


def build_names(
    encoders: Mapping[str, str],
    blocks: Mapping[tuple[str, str], Layers] | None = None,
    *,
    alone: Layers | None = None,
    swapped: Layers | None = None,
) -> LoraNames:
    """The names of a family.

    encoders: what its text encoders' layers begin with -> diffusers' name of the encoder. blocks:
    of each kind, by what the original and diffusers call it. alone: layers outside of blocks.
    swapped: those that have scale and shift in the other order; "*" is any number.
    """

    def places(shapes: Shapes) -> dict[str, Place]:
        found: dict[str, Place] = {}
        for (theirs, ours), layers in (blocks or {}).items():
            for number in _numbers(shapes, ours):
                found |= _places(shapes, layers, f"{theirs}.{number}.", f"{ours}.{number}.")
        return found | _places(shapes, alone or {}) | _places(shapes, swapped or {}, swapped=True)

    own = {f"{encoder}.": encoder for encoder in sorted({*encoders.values()}, reverse=True)}
    parts = {**encoders, **own, **dict.fromkeys(OF_TRANSFORMER, PART)}
    return LoraNames(parts=parts, denoiser=PART, other_places=places)


def _places(
    shapes: Shapes, layers: Layers, theirs: str = "", ours: str = "", *, swapped: bool = False
) -> dict[str, Place]:
    """Of the layers that this base has. theirs, ours: what stands before each name."""
    found = {
        flatten(f"{theirs}{layer}"): Place(tuple(f"{ours}{name}.weight" for name in names), swapped)
        for layer, names in layers.items()
    }
    return {name: place for name, place in found.items() if {*place.weights} <= shapes.keys()}


def _numbers(shapes: Shapes, blocks: str) -> Iterator[int]:
    for number in count():
        if not any(name.startswith(f"{blocks}.{number}.") for name in shapes):
            return
        yield number
