"""The tensors of LoRAs for FLUX.1 that read hints, by diffusers' names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from cnctl.errors import CnctlError
from cnctl.models.flux.control_lora import ControlLora
from cnctl.models.flux.lora import NAMES
from cnctl.models.lora import AdapterMetadata, Place, Shapes, flatten, rows_of
from cnctl.models.transformer.base_file import PART, take_rows
from cnctl.models.transformer.shapes import shapes_of_class
from cnctl.tensorfiles.expected import check
from cnctl.tensorfiles.lazy import LazyTensor, Tensors, open_tensors

PREFIX = f"{PART}."
NAME = re.compile(r"(?P<layer>.+?)(?:\.(?P<factor>lora_[AB]))?\.(?P<kind>weight|bias|scale)")
UP = "lora_B"


def read_tensors(lora: ControlLora, config: Mapping[str, Any]) -> Tensors:
    """Factors, their biases and norms, not yet read: "x_embedder.lora_A.weight" and so on.

    config: that of the base's transformer. Its first layer is widened to read the hint's channels
    too, twice as many. CnctlError for tensors that do not fit it.
    """
    channels = config.get("in_channels", 64)
    wide = {**config, "in_channels": 2 * channels, "out_channels": channels}
    shapes = shapes_of_class(FluxTransformer2DModel, wide)
    opened = open_tensors(lora.path, lora.container, lora.tensors, lora.tensors)
    try:
        tensors = dict(_renamed(opened, shapes))
        check({name: tensor.shape for name, tensor in tensors.items()}, _expected(tensors, shapes))
    except CnctlError as error:
        raise CnctlError(
            f"{lora.path}: {error}", hint="give a LoRA that was made for this family of bases"
        ) from error
    return _scaled(tensors, AdapterMetadata(lora.metadata))


def split_name(name: str) -> tuple[str, str, str]:
    """The layer, "lora_A", "lora_B" or "", and "weight" or "bias"; the name itself for others."""
    match = NAME.fullmatch(name)
    return (match["layer"], match["factor"] or "", match["kind"]) if match else (name, "", "")


def _renamed(tensors: Tensors, shapes: Shapes) -> Iterator[tuple[str, LazyTensor]]:
    """By diffusers' names, each layer's rows by themselves; what is not known keeps its name."""
    places = NAMES.other_places(shapes)
    for name, tensor in tensors.items():
        layer, factor, kind = split_name(name.removeprefix(PREFIX))
        place = places.get(flatten(layer), Place((f"{layer}.weight",)))
        rows = sum(shapes[weight][0] for weight in place.weights if weight in shapes)
        if not kind or not rows:
            yield name, tensor
            continue
        if factor != "lora_A" and tensor.shape[:1] != (rows,):
            raise CnctlError(f"{name} is {list(tensor.shape)}, and the base has {rows} rows there")
        end = f"{factor}.{kind}" if factor else "weight"
        for weight, own in rows_of(place, shapes):
            part = tensor if factor == "lora_A" else take_rows(tensor, own)
            yield f"{weight.removesuffix('weight')}{end}", part


def _expected(tensors: Tensors, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes of each layer's factors, of biases and of norms, where they are known."""
    expected: dict[str, tuple[int, ...]] = {}
    for name in ("x_embedder.lora_A.weight", *tensors):
        layer, factor, kind = split_name(name)
        weight = tuple(shapes.get(f"{layer}.weight", ()))
        if factor and len(weight) == 2:
            down = tensors.get(f"{layer}.lora_A.weight")
            rank = down.shape[0] if down and down.shape else 0
            expected[f"{layer}.lora_A.weight"] = (rank, weight[1])
            expected[f"{layer}.lora_B.weight"] = (weight[0], rank)
            if (factor, kind) == (UP, "bias"):
                expected[name] = weight[:1]
        elif not factor and len(weight) == 1:
            expected[name] = weight
    return expected


def _scaled(tensors: Tensors, adapter: AdapterMetadata) -> Tensors:
    """The tensors, with each product multiplied by the scale that the file's metadata state."""
    scaled = {}
    for name, tensor in tensors.items():
        layer, factor, _ = split_name(name)
        if factor == UP:
            rank = tensors[f"{layer}.lora_A.weight"].shape[0]
            scale = adapter.scale(PART, f"{layer}.weight", rank)
            tensor = tensor if scale == 1 else tensor.then(partial(torch.mul, scale))
        scaled[name] = tensor
    return scaled
