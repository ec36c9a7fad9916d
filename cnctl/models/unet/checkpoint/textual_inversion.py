"""Textual inversion: files of the web interfaces and of diffusers, for one text encoder or two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from cnctl.errors import CnctlError
from cnctl.tensorfiles.expected import check_dtypes, first_few
from cnctl.tensorfiles.lazy import LazyTensor, open_tensors
from cnctl.tensorfiles.listing import list_tensors

UNNAMED = ("*", "emb_params")
"""What the web interfaces call the vectors of a .pt and of a .safetensors file."""
OF_SDXL = ("clip_l", "clip_g")
MOST_VECTORS = 75
"""A text encoder reads no more words at once."""


def read_embedding(path: Path) -> tuple[str, list[torch.Tensor]]:
    """The word in the file, "" for none, and its vectors.

    Vectors: float32 (n, D) for each text encoder that they were learnt with, SDXL's in its order.
    """
    listing = list_tensors(path)
    check_dtypes(listing.tensors)
    tensors = open_tensors(path, listing.container, listing.tensors, listing.tensors)
    word, found = _choose(path, tensors)
    vectors = [torch.atleast_2d(tensor.read().float()) for tensor in found]
    if any(one.ndim != 2 or not 0 < len(one) <= MOST_VECTORS for one in vectors):
        raise CnctlError(
            f"{path} holds vectors of shape {list(found[0].shape)}",
            hint="give a textual inversion: at most 75 vectors, side by side",
        )
    return word, vectors


def _choose(path: Path, tensors: Mapping[str, LazyTensor]) -> tuple[str, list[LazyTensor]]:
    if tensors.keys() == set(OF_SDXL):
        return "", [tensors[name] for name in OF_SDXL]
    if len(tensors) == 1:
        [(name, tensor)] = tensors.items()
        return ("" if name in UNNAMED else name), [tensor]
    raise CnctlError(
        f"{path} is not a textual inversion; its tensors are {first_few(sorted(tensors), 3)}",
        hint="give a file with one embedding: .pt, .bin or .safetensors",
    )
