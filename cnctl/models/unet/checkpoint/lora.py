"""LoRA for a base: files of kohya's trainers, of peft, and of diffusers, old and new.

They differ in what they call a layer and its two factors. Layers are recognised by the base's own
names, points and underlines being all one, and in a U-Net by the original's names, too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.architecture import Shape, read_encoder
from cnctl.models.unet.checkpoint.keymap import decoder_names, pairs
from cnctl.tensorfiles.expected import check_dtypes, first_few
from cnctl.tensorfiles.lazy import LazyTensor, open_tensors
from cnctl.tensorfiles.listing import list_tensors

PARTS = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "base_model.model.": "unet",
    "diffusion_model.": "unet",
    "unet.": "unet",
}
"""What names begin with, and the part of the base that they are about; without any, the U-Net."""
FACTOR = re.compile(r"(.+?)[._]lora(?:_linear_layer)?[._](down|up|A|B)(?:\.\w+)?\.weight")
SIDES = {"A": "down", "B": "up"}
ALPHA = ".alpha"


@dataclass(frozen=True)
class LoraLayer:
    """What a LoRA adds to one weight of a base: scale * up @ down.

    part: a component of the base by diffusers' name; weight: the parameter's name in it.
    down (rank, in, ...), up (out, rank, ...).
    """

    part: str
    weight: str
    shape: Shape
    down: LazyTensor
    up: LazyTensor
    scale: float

    def change(self) -> torch.Tensor:
        """Float32, of the weight's shape."""
        down, up = self.down.read().float(), self.up.read().float()
        return self.scale * (up.flatten(1) @ down.flatten(1)).reshape(self.shape)


def read_lora(path: Path, shapes: Mapping[str, Mapping[str, Shape]]) -> list[LoraLayer]:
    """What it changes in a base; no tensor but the small "alpha" is read yet.

    shapes: of the weights of "unet", "text_encoder" and perhaps "text_encoder_2", by name.
    Raises CnctlError that names what fits nothing in the base, or is of another shape.
    """
    listing = list_tensors(path)
    check_dtypes(listing.tensors)
    tensors = open_tensors(path, listing.container, listing.tensors, listing.tensors)
    known = {part: _flat_names(part, own) for part, own in shapes.items()}
    factors: dict[tuple[str, str], dict[str, LazyTensor]] = {}
    unknown = []
    for name, tensor in tensors.items():
        place, side = _split(name)
        part, flat = _flatten(place)
        weight = known.get(part, {}).get(flat)
        if weight is None or not side:
            unknown.append(name)
        else:
            factors.setdefault((part, weight), {})[side] = tensor
    if unknown or not factors:
        raise CnctlError(
            f"{path}: {len(unknown)} of {len(tensors)} tensors fit nothing in this base: "
            f"{first_few(unknown, 3)}",
            hint="give a LoRA that was made for this family of bases; LoHa, LoKr and DoRA are not "
            "read",
        )
    told = _Told(listing.metadata)
    return [
        _layer(path, part, weight, found, shapes[part][weight], told)
        for (part, weight), found in factors.items()
    ]


def _split(name: str) -> tuple[str, str]:
    """The layer's place, and which of "down", "up" and "alpha" this is of it; "" for neither."""
    if name.endswith(ALPHA):
        return name.removesuffix(ALPHA), "alpha"
    if match := FACTOR.fullmatch(name):
        return match[1], SIDES.get(match[2], match[2])
    return name, ""


def _flatten(place: str) -> tuple[str, str]:
    """The part of the base, and the layer's place in it with underlines alone."""
    part = "unet"
    for prefix, meant in PARTS.items():
        if place.startswith(prefix):
            part, place = meant, place.removeprefix(prefix)
            break
    # Older diffusers kept factors beside the layers, in attention processors.
    place = re.sub(r"\.processor\.to_(\w+)$", r".to_\1", place)
    place = re.sub(r"\.to_out$", ".to_out.0", place)
    return part, place.replace(".", "_").removeprefix("text_model_")


def _flat_names(part: str, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Weights by their flattened places."""
    weights = [name for name, shape in shapes.items() if name.endswith(".weight") and shape[1:]]
    found = {_flatten(_place(name))[1]: name for name in weights}
    if part == "unet":
        encoder = read_encoder(shapes)
        named = [(pair.diffusers, pair.original) for pair in pairs(encoder)]
        for ours, theirs in (*named, *decoder_names(encoder)):
            if ours in weights:
                found[_place(theirs).replace(".", "_")] = ours
    return found


def _place(weight: str) -> str:
    return weight.removesuffix(".weight")


class _Told:
    """What a file of peft's says of its ranks, in its metadata."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        try:
            told = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except ValueError:
            told = {}
        self._told: dict[str, Any] = told if isinstance(told, dict) else {}

    def scale(self, part: str, weight: str, rank: int) -> float:
        """By what the product of both factors is multiplied."""
        alphas = self._told.get(f"{part}.alpha_pattern") or {}
        place, alpha = _place(weight), self._told.get(f"{part}.lora_alpha", rank)
        for pattern, own in alphas.items():
            if _matches(pattern, place):
                alpha = own
                break
        return alpha / (math.sqrt(rank) if self._told.get(f"{part}.use_rslora") else rank)


def _matches(pattern: str, place: str) -> bool:
    """Whether a pattern of peft's means this layer, as `peft.utils.other.get_pattern_key` has it.

    A pattern comes from a stranger's file, and some take for ever: CnctlError for what has groups
    or more than a few repetitions, which no trainer writes.
    """
    if re.search(r"[(){}]", pattern) or len(re.findall(r"[*+?]", pattern)) > 3:
        raise CnctlError(
            f"the LoRA's alpha_pattern has {pattern[:80]!r}, which is not read",
            hint="give a LoRA whose patterns are names of layers",
        )
    return re.match(rf"(.*\.)?({pattern})$", place) is not None


def _layer(
    path: Path, part: str, weight: str, found: Mapping[str, LazyTensor], shape: Shape, told: _Told
) -> LoraLayer:
    if not {"down", "up"} <= found.keys():
        raise CnctlError(f"{path} lacks a factor of {part}'s {_place(weight)}", hint="get it again")
    down, up = found["down"], found["up"]
    if _sides(up.shape[0], *down.shape[1:]) != _sides(*shape) or (
        math.prod(up.shape[1:]) != down.shape[0]
    ):
        raise CnctlError(
            f"{path}: the factors of {part}'s {_place(weight)} are {list(up.shape)} and "
            f"{list(down.shape)}, the weight is {list(shape)}",
            hint="give a LoRA that was made for this family of bases",
        )
    rank = down.shape[0]
    if "alpha" in found:
        return LoraLayer(part, weight, shape, down, up, float(found["alpha"].read()) / rank)
    return LoraLayer(part, weight, shape, down, up, told.scale(part, weight, rank))


def _sides(*shape: int) -> Shape:
    """Without a 1x1 kernel: some keep it where the base's weight is a matrix."""
    return shape[:2] if shape[2:] == (1, 1) else shape
