"""Put tensors into a network that was built without weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cnctl.errors import CnctlError


def fill(
    model: Any, weights: Iterable[tuple[str, Tensor]], *, dtype: torch.dtype, whole: str
) -> None:
    """Give a model its tensors by name, in this precision: none missing, and none left over.

    whole: what to give instead, for the CnctlError that says that the file is not complete.
    """
    # Text models have lost or kept a level of names, as their class and its version has it.
    expected = model.state_dict().keys()
    cast = {}
    for name, weight in weights:
        flat = name.removeprefix("text_model.")
        # Copied: a mapped file may change while the model is in use.
        cast[flat if flat in expected else name] = weight.to(dtype, copy=True).contiguous()
    try:
        unknown = model.load_state_dict(cast, strict=False, assign=True).unexpected_keys
    except RuntimeError as error:
        raise _incomplete(model, " ".join(str(error).split())[:200], whole) from error
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    own = itertools.chain(model.named_parameters(), model.named_buffers())
    missing = [name for name, tensor in own if tensor.device.type == "meta"]
    for what, names in (("lacks", missing), ("has no place for", unknown)):
        if names:
            raise _incomplete(model, f"it {what} {', '.join(names[:3])}", whole)


def _incomplete(model: Any, reason: str, whole: str) -> CnctlError:
    return CnctlError(
        f"the file does not hold a whole {type(model).__name__}: {reason}", hint=f"give {whole}"
    )
