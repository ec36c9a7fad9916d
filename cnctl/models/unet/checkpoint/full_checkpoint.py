"""What the U-Net in a full checkpoint has learnt along with its ControlNet (`sd_locked=False`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.architecture import Architecture
from cnctl.models.unet.checkpoint.base_file import Unet
from cnctl.models.unet.checkpoint.keymap import decoder_names, pairs
from cnctl.tensorfiles.lazy import LazyTensor, Tensors, open_tensors

SAME = 1e-6
"""Differences below this are rounding; the web interface's own script says the same."""


def base_update(own: Unet, base: Unet) -> Tensors:
    """What `own` has beyond `base`, float32, by the parameter names of diffusers' U-Net.

    Tensors that are the same are left out; often that is the whole encoder. CnctlError where the
    two are not of one family. Reads both once to find what differs, and again when it is written.
    """
    names = list(_names(own.architecture))
    ours, theirs = _open(own, names), _open(base, names)
    for name, tensor in ours.items():
        if tensor.shape != theirs[name].shape:
            raise CnctlError(
                f"{name} is {list(tensor.shape)} in {own.path} and {list(theirs[name].shape)} "
                f"in {base.path}",
                hint="give the base that this checkpoint was trained from",
            )
    deltas = {name: _difference(tensor, theirs[name]) for name, tensor in ours.items()}
    return {name: delta for name, delta in deltas.items() if float(delta.read().abs().max()) > SAME}


def _names(encoder: Architecture) -> Iterator[tuple[str, str]]:
    """Every tensor of a U-Net under diffusers' name and the original's."""
    for pair in pairs(encoder):
        yield pair.diffusers, pair.original
    yield from decoder_names(encoder)


def _open(unet: Unet, names: list[tuple[str, str]]) -> Tensors:
    full = {ours: unet.full_name(ours, theirs) for ours, theirs in names}
    missing = [name for name in full.values() if name not in unet.tensors]
    if missing:
        raise CnctlError(f"{unet.path} has no {missing[0]}", hint="give a whole base")
    found = open_tensors(unet.path, unet.container, unet.tensors, full.values())
    return {name: found[place] for name, place in full.items()}


def _difference(one: LazyTensor, other: LazyTensor) -> LazyTensor:
    return LazyTensor(torch.float32, one.shape, lambda: one.read().float() - other.read().float())
