"""The tensors of an opened source, under diffusers' names."""

from __future__ import annotations

from functools import partial

import torch

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint import keymap
from cnctl.models.unet.checkpoint.base_file import Unet
from cnctl.models.unet.checkpoint.partial import complete
from cnctl.models.unet.checkpoint.source import Source
from cnctl.tensorfiles.lazy import Tensors, open_tensors


def read_tensors(source: Source) -> Tensors:
    """All tensors of the ControlNet: diffusers' names, the file's own dtypes, not yet read."""
    names = source.full_names
    listing = {names[name]: spec for name, spec in source.tensors.items()}
    found = open_tensors(source.path, source.container, listing, listing)
    own = {name: found[full] for name, full in names.items()}
    table = keymap.pairs(source.architecture)
    if source.base:
        base, mark = read_encoder_tensors(source.base), source.form.mark
        return {pair.diffusers: complete(own, base, pair, mark=mark) for pair in table}
    if source.form.name == "diffusers":
        return {pair.diffusers: own[pair.diffusers] for pair in table}
    return {pair.diffusers: own[pair.original] for pair in table}


def read_encoder_tensors(unet: Unet) -> Tensors:
    """What a ControlNet copies of a base: diffusers' names, the base's dtypes, not yet read."""
    names = {pair.diffusers: unet.name(pair) for pair in keymap.pairs(unet.architecture)}
    found = open_tensors(unet.path, unet.container, unet.tensors, names.values())
    return {name: found[full] for name, full in names.items()}


def checked(tensors: Tensors, *, where: object, dtype: torch.dtype | None = None) -> Tensors:
    """The same, cast where dtype says; reading one with values that are not finite fails.

    CnctlError names the tensor. where: the file, for the message.
    """
    return {
        name: lazy.then(partial(_cast, f"{where}: {name}", dtype), dtype)
        for name, lazy in tensors.items()
    }


def _cast(name: str, dtype: torch.dtype | None, tensor: torch.Tensor) -> torch.Tensor:
    if not is_finite(tensor):
        raise CnctlError(
            f"{name} holds values that are not finite",
            hint="the file is damaged, or its training failed; get another",
        )
    cast = tensor if dtype is None else tensor.to(dtype)
    if cast is not tensor and not is_finite(cast):
        raise CnctlError(
            f"{name} has values too large for {str(dtype).removeprefix('torch.')}",
            hint="use --dtype bfloat16 or float32",
        )
    return cast


def is_finite(tensor: torch.Tensor) -> bool:
    """Neither NaN nor infinity anywhere."""
    values = tensor.float() if tensor.element_size() == 1 else tensor
    # The extremes pass NaN on, and are one quick pass where isfinite writes a mask.
    return not values.numel() or all(map(torch.isfinite, values.aminmax()))
