"""Tensors held to finite values when they are read, and cast."""

from __future__ import annotations

from functools import partial

import torch

from cnctl.errors import CnctlError
from cnctl.tensorfiles.lazy import Tensors


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
