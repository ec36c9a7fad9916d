"""The tensors of a base with a transformer in one file, by the parts and names of diffusers.

Tensors are read when they are needed: a file may be larger than the memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from cnctl.errors import CnctlError
from cnctl.models.fill import fill
from cnctl.models.lora import LoraNames, flatten, rows_of
from cnctl.tensorfiles.expected import check_dtypes, first_few
from cnctl.tensorfiles.header import Shape
from cnctl.tensorfiles.lazy import LazyTensor, Tensors, open_tensors
from cnctl.tensorfiles.listing import list_tensors

PART = "transformer"
"""The folder of the denoiser."""
AUTOENCODER = "vae"
OF_DENOISER = "model.diffusion_model."
OF_AUTOENCODER = ("first_stage_model.", "vae.")
SCALES = (".scale_weight", ".weight_scale", ".comfy_quant", "scaled_fp8")
"""Ends of names beside weights of 8 bits that are to be scaled."""


@dataclass(frozen=True, kw_only=True)
class FileNames:
    """What a family's bases in one file call their tensors.

    layers: of the transformer. alone: tensors of no layer, and diffusers' name; "" for what nothing
    reads. text_encoders: what the names of each begin with, and its part. has_autoencoder: whether
    one in a file is read.
    """

    layers: LoraNames
    alone: Mapping[str, str] = field(default_factory=dict)
    text_encoders: Mapping[str, str] = field(default_factory=dict)
    has_autoencoder: bool = True

    def part_of(self, name: str, *, bare: bool) -> tuple[str, str]:
        """The part of a tensor, and its name there; "" for neither. bare: see `is_bare`."""
        if self.has_autoencoder and name.startswith(OF_AUTOENCODER):
            return AUTOENCODER, name
        for prefix, part in {**self.text_encoders, OF_DENOISER: PART}.items():
            if name.startswith(prefix):
                return part, name.removeprefix(prefix)
        return (PART, name) if bare else ("", name)

    def diffusers_names(
        self, tensors: Tensors, expected: Mapping[str, Shape]
    ) -> Iterator[tuple[str, LazyTensor]]:
        """A transformer's tensors by diffusers' names; what is not known keeps its name."""
        places = self.layers.other_places(expected)
        for name, tensor in tensors.items():
            layer, _, kind = name.rpartition(".")
            if name in self.alone:
                yield self.alone[name], tensor
            elif name in expected or flatten(layer) not in places:
                yield name, tensor
            else:
                kind = "weight" if kind == "scale" else kind
                for weight, rows in rows_of(places[flatten(layer)], expected):
                    yield f"{weight.removesuffix('weight')}{kind}", take_rows(tensor, rows)


@dataclass(frozen=True, kw_only=True)
class BaseFile:
    """parts: tensors by part; the autoencoder's have the original's names. left_out: the others."""

    parts: Mapping[str, Tensors]
    left_out: tuple[str, ...]

    def describe_left_out(self) -> str:
        """Half a sentence on what nothing reads, where there is such."""
        names = self.left_out
        return f"{len(names)} of its tensors are left out, {first_few([*names], 1)} for one"


def open_base_file(names: FileNames, path: Path, expected: Mapping[str, Shape]) -> BaseFile:
    """What a file has of a base; no tensor is read. expected: shapes of the transformer's."""
    listing = list_tensors(path)
    if scaled := [name for name in listing.tensors if name.endswith(SCALES)]:
        raise CnctlError(
            f"{path} has weights with scales beside them, {scaled[0]} for one, which are not read",
            hint="give a file in bfloat16 or float16",
        )
    tensors = open_tensors(path, listing.container, listing.tensors, listing.tensors)
    bare = not any(name.startswith(OF_DENOISER) for name in tensors)
    parts: dict[str, Tensors] = {PART: {}, "": {}}
    for name, tensor in tensors.items():
        part, own = names.part_of(name, bare=bare)
        parts.setdefault(part, {})[own] = tensor
    left_out = tuple(parts.pop(""))
    check_dtypes({name: s for name, s in listing.tensors.items() if name not in left_out})
    denoiser = dict(names.diffusers_names(parts[PART], expected))
    denoiser.pop("", None)
    return BaseFile(parts={**parts, PART: denoiser}, left_out=left_out)


def take_rows(tensor: LazyTensor, rows: tuple[slice, ...]) -> LazyTensor:
    """These rows of a tensor, one below another."""
    count = sum(len(range(*span.indices(tensor.shape[0]))) for span in rows)
    return LazyTensor(
        tensor.dtype,
        (count, *tensor.shape[1:]),
        lambda: torch.cat([tensor.read()[span] for span in rows]),
    )


def fill_parts(
    file: BaseFile,
    parts: Mapping[str, Any],
    *,
    dtypes: Mapping[str, torch.dtype],
    outlined: Container[str],
) -> None:
    """Give the networks of a base, which are there without weights, what the file has of them.

    outlined: those that stay without.
    """
    for part, tensors in file.parts.items():
        if part in outlined:
            continue
        model = parts[part]
        own: Iterable[tuple[str, torch.Tensor]] = ((n, t.read()) for n, t in tensors.items())
        if part == AUTOENCODER:
            own = convert_ldm_vae_checkpoint(dict(own), model.config).items()
        elif "text_projection.weight" in model.state_dict().keys() - tensors.keys():
            # Files of Stable Diffusion 3 have none for the first CLIP: diffusers takes it for 1.
            own = itertools.chain(
                own, [("text_projection.weight", torch.eye(model.config.projection_dim))]
            )
        fill(model, own, dtype=dtypes[part], whole="a whole checkpoint")
