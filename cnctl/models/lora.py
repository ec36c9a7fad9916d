"""LoRA for a base: files of kohya's trainers, of peft, ComfyUI and diffusers, old and new.

They differ in what they call a layer and its two factors. Layers are recognised by the base's own
names, with dots and underscores alike, and by further names that a family lists.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.identify import find_signature
from cnctl.tensorfiles.expected import check_dtypes, first_few
from cnctl.tensorfiles.header import Shape
from cnctl.tensorfiles.lazy import LazyTensor, Tensors, open_tensors
from cnctl.tensorfiles.listing import list_tensors

FACTOR = re.compile(r"(.+?)[._]lora(?:_linear_layer)?([12]?)[._](down|up|A|B)(?:\.\w+)?\.weight")
"""The layer; which of two streams, in XLabs' names; the factor."""
SIDES = {"A": "down", "B": "up"}
ALPHA = ".alpha"
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Place:
    """What one layer of a file changes in a part of a base.

    weights: whose rows, one below another, are the file's. swapped: whether the file has the lower
    half of the rows first.
    """

    weights: tuple[str, ...]
    swapped: bool = False


@dataclass(frozen=True, kw_only=True)
class LoraNames:
    """What files call the layers of a family's bases.

    parts: what names begin with, and the part of the base that they are about. denoiser: the part
    without any. other_places: of the shapes of its weights, the places of names that are not the
    base's own, with underlines alone.
    """

    parts: Mapping[str, str]
    denoiser: str
    other_places: Callable[[Shapes], Mapping[str, Place]] = lambda shapes: {}


@dataclass(frozen=True)
class LoraLayer:
    """What a LoRA adds to one weight of a base: rows of scale * up @ down.

    part: a component of the base by diffusers' name; weight: the parameter's name in it.
    down (rank, in, ...), up (out, rank, ...); rows: of up, spans of them in order.
    """

    part: str
    weight: str
    shape: Shape
    down: LazyTensor
    up: LazyTensor
    scale: float
    rows: tuple[slice, ...] = (slice(None),)

    def change(self) -> torch.Tensor:
        """Float32, of the weight's shape."""
        down, up = self.down.read().float(), self.up.read().float()
        up = torch.cat([up[rows] for rows in self.rows])
        return self.scale * (up.flatten(1) @ down.flatten(1)).reshape(self.shape)


def read_lora(names: LoraNames, path: Path, shapes: Mapping[str, Shapes]) -> list[LoraLayer]:
    """What it changes in a base; no tensor but the small "alpha" is read yet.

    shapes: of the weights of each part of the base, by name. Raises CnctlError that names what
    fits nothing in the base, or is of another shape, or is there twice.
    """
    listing = list_tensors(path)
    check_dtypes(listing.tensors)
    tensors = open_tensors(path, listing.container, listing.tensors, listing.tensors)
    factors, unknown = _sorted(names, tensors, shapes)
    if unknown or not factors:
        row = find_signature(listing.tensors)
        raise CnctlError(
            f"{path}: {len(unknown)} of {len(tensors)} tensors fit nothing in this base: "
            f"{first_few(unknown, 3)}",
            hint=f"it is {row.what if row else 'not a known LoRA'}: give a LoRA that was made for "
            "this family of bases; LoHa, LoKr and DoRA are not read",
        )
    adapter = AdapterMetadata(listing.metadata)
    layers = [
        layer
        for (part, place), found in factors.items()
        for layer in _layers(path, part, place, found, shapes[part], adapter)
    ]
    _check_once(path, layers)
    return layers


def flatten(place: str) -> str:
    """A layer's place with underlines alone."""
    return place.replace(".", "_").removeprefix("text_model_")


def _sorted(
    names: LoraNames, tensors: Tensors, shapes: Mapping[str, Shapes]
) -> tuple[dict[tuple[str, Place], dict[str, LazyTensor]], list[str]]:
    """Factors and alphas by the place that they change, and the names of all other tensors."""
    known = {part: _places(own) for part, own in shapes.items()}
    known[names.denoiser] = {**names.other_places(shapes[names.denoiser]), **known[names.denoiser]}
    factors: dict[tuple[str, Place], dict[str, LazyTensor]] = {}
    unknown = []
    for name, tensor in tensors.items():
        own_name, side = _split(name)
        part, flat = _find_part(names, own_name)
        place = known.get(part, {}).get(flat)
        found = factors.setdefault((part, place), {}) if place and side else {}
        if not place or not side or side in found:
            unknown.append(name)
        found[side] = tensor
    return factors, unknown


def _split(name: str) -> tuple[str, str]:
    """The layer's place, and which of "down", "up" and "alpha" this is of it; "" for neither."""
    if name.endswith(ALPHA):
        return name.removesuffix(ALPHA), "alpha"
    if match := FACTOR.fullmatch(name):
        return match[1] + match[2], SIDES.get(match[3], match[3])
    return name, ""


def _find_part(names: LoraNames, place: str) -> tuple[str, str]:
    """The part of the base, and the layer's place in it with underlines alone."""
    part = names.denoiser
    for prefix, meant in names.parts.items():
        if place.startswith(prefix):
            part, place = meant, place.removeprefix(prefix)
            break
    # Older diffusers kept factors beside the layers, in attention processors.
    place = re.sub(r"\.processor\.to_(\w+)$", r".to_\1", place)
    return part, flatten(re.sub(r"\.to_out$", ".to_out.0", place))


def _places(shapes: Shapes) -> dict[str, Place]:
    """Of each weight with rows and columns, by its flattened name."""
    weights = [name for name, shape in shapes.items() if name.endswith(".weight") and shape[1:]]
    return {flatten(_place(name)): Place((name,)) for name in weights}


def _place(weight: str) -> str:
    return weight.removesuffix(".weight")


class AdapterMetadata:
    """What a file of peft's says of its ranks, in its metadata."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        try:
            read = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except ValueError:
            read = {}
        self._read: dict[str, Any] = read if isinstance(read, dict) else {}

    def scale(self, part: str, weight: str, rank: int) -> float:
        """By what the product of both factors is multiplied."""
        alphas = self._read.get(f"{part}.alpha_pattern") or {}
        place, alpha = _place(weight), self._read.get(f"{part}.lora_alpha", rank)
        for pattern, own in alphas.items():
            if _matches(pattern, place):
                alpha = own
                break
        return alpha / (math.sqrt(rank) if self._read.get(f"{part}.use_rslora") else rank)


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


def _layers(
    path: Path,
    part: str,
    place: Place,
    found: Mapping[str, LazyTensor],
    shapes: Shapes,
    adapter: AdapterMetadata,
) -> Iterator[LoraLayer]:
    """What these factors add to each weight of a place."""
    named = f"{part}'s {', '.join(map(_place, place.weights))}"
    if not {"down", "up"} <= found.keys():
        raise CnctlError(f"{path} lacks a factor of {named}", hint="get it again")
    down, up = found["down"], found["up"]
    rank, first = down.shape[0], shapes[place.weights[0]]
    whole = (sum(shapes[weight][0] for weight in place.weights), *first[1:])
    if _sides(up.shape[0], *down.shape[1:]) != _sides(*whole) or math.prod(up.shape[1:]) != rank:
        raise CnctlError(
            f"{path}: the factors of {named} are {list(up.shape)} and "
            f"{list(down.shape)}, the weight is {list(whole)}",
            hint="give a LoRA that was made for this family of bases",
        )
    alpha = float(found["alpha"].read()) if "alpha" in found else None
    for weight, rows in rows_of(place, shapes):
        scale = adapter.scale(part, weight, rank) if alpha is None else alpha / rank
        yield LoraLayer(part, weight, shapes[weight], down, up, scale, rows)


def rows_of(place: Place, shapes: Shapes) -> Iterator[tuple[str, tuple[slice, ...]]]:
    """Which rows of a file's layer each weight of a place has."""
    start = 0
    for weight in place.weights:
        count = shapes[weight][0]
        half, end = start + count // 2, start + count
        yield (
            weight,
            (slice(half, end), slice(start, half)) if place.swapped else (slice(start, end),),
        )
        start = end


def _check_once(path: Path, layers: list[LoraLayer]) -> None:
    """Raise CnctlError where a weight is changed by its own layer and by a fused one."""
    seen = set()
    for layer in layers:
        if (layer.part, layer.weight) in seen:
            raise CnctlError(
                f"{path} has {layer.part}'s {_place(layer.weight)} twice: by itself, and as a part "
                "of a larger layer",
                hint="give a LoRA that has each layer once",
            )
        seen.add((layer.part, layer.weight))


def _sides(*shape: int) -> Shape:
    """Without a 1x1 kernel: some keep it where the base's weight is a matrix."""
    return shape[:2] if shape[2:] == (1, 1) else shape
