"""Write a safetensors file tensor by tensor: no more than one of them is in memory.

The library writes the same bytes, but wants all tensors at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.tensorfiles.lazy import LazyTensor
from cnctl.tensorfiles.mapped import TORCH_DTYPES

ORDER = [
    TORCH_DTYPES[code]
    for code in (
        "U64", "I64", "F64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16",
        "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL",
    )
]  # fmt: skip
CODES = {dtype: code for code, dtype in TORCH_DTYPES.items()}
PIECE = 1 << 20
"""Bytes that are written at once: one call for a large mapped tensor takes twice the time."""
Advance = Callable[[int], None]
"""advance(done): called with the number of bytes written so far."""
Metadata = Callable[[bool], Mapping[str, str]]
"""metadata(done): called for its length first, and with True when all tensors are written."""


def total_bytes(tensors: Mapping[str, LazyTensor]) -> int:
    """Returns the bytes of all tensors together."""
    return sum(tensor.nbytes for tensor in tensors.values())


def write_tensors(
    path: Path,
    tensors: Mapping[str, LazyTensor],
    *,
    metadata: Metadata,
    advance: Advance = lambda done: None,
) -> None:
    """Write the file; OSError where the disk is full."""
    ordered = dict(sorted(tensors.items(), key=_place))
    ends = list(accumulate(tensor.nbytes for tensor in ordered.values()))
    length = len(_header(ordered, ends, metadata(False)))
    with path.open("wb") as file:
        file.seek(length)
        for (name, tensor), end in zip(ordered.items(), ends, strict=True):
            content = _bytes(name, tensor)
            for begin in range(0, len(content), PIECE):
                file.write(content[begin : begin + PIECE])
            advance(end)
        header = _header(ordered, ends, metadata(True))
        assert len(header) == length
        file.seek(0)
        file.write(header)


def _place(item: tuple[str, LazyTensor]) -> tuple[int, str]:
    """The library's order, which keeps every tensor aligned: wide dtypes first, then by name."""
    name, tensor = item
    return ORDER.index(tensor.dtype), name


def _header(
    tensors: Mapping[str, LazyTensor], ends: list[int], metadata: Mapping[str, str]
) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    for (name, tensor), end in zip(tensors.items(), ends, strict=True):
        entries[name] = {
            "dtype": CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end - tensor.nbytes, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(name: str, lazy: LazyTensor) -> memoryview:
    tensor = lazy.read()
    if tensor.dtype != lazy.dtype or tuple(tensor.shape) != lazy.shape:
        raise CnctlError(
            f"{name} changed while it was read", hint="do not change the source during a conversion"
        )
    # Little-endian, as every machine that torch runs on.
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
