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


def base_update(own: Unet, base: Unet) -> tuple[Tensors, str]:
    """What `own` has beyond `base`, float32, by the parameter names of diffusers' U-Net.

    Tensors that are the same are left out; often that is the whole encoder. The same is what one
    of the two has rounded to half precision: the name of that dtype comes second, "" where nothing
    was left out for it. CnctlError where the two are not of one family. Reads both once to find
    what differs, and again when it is written.
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
    moved, rounded = {}, ""
    for name, tensor in ours.items():
        delta = _difference(tensor, theirs[name])
        if float(delta.read().abs().max()) <= SAME:
            continue
        coarse = max(tensor.dtype, theirs[name].dtype, key=lambda dtype: torch.finfo(dtype).eps)
        if _is_rounding(delta.read(), theirs[name].read().float(), coarse):
            rounded = str(coarse).removeprefix("torch.")
        else:
            moved[name] = delta
    return moved, rounded


def _is_rounding(difference: torch.Tensor, value: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether rounding to this dtype, to nearest, explains every difference from these values."""
    info = torch.finfo(dtype)
    # Between two powers of two the numbers of a dtype are equally far apart.
    exponent = torch.frexp(value.abs().clamp(min=info.smallest_normal)).exponent
    half = torch.ldexp(torch.full_like(value, info.eps / 4), exponent)
    return bool((difference.abs() <= half * (1 + torch.finfo(torch.float32).eps)).all())


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
