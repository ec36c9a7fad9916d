"""The header of a safetensors file, read without torch and without touching the tensors.

The rules are those of the format's own documentation: an 8-byte little-endian length, a JSON
object, then the data; no holes, no overlap, nothing behind the last tensor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError

Shape = tuple[int, ...]
MAX_HEADER = 16 << 20
"""The format permits 100 MB; a ControlNet's header has 50 kB, and JSON unfolds in memory."""
MAX_TENSORS = 10_000
ITEM_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorSpec:
    """The entry of one tensor. dtype: a safetensors code such as "F32"."""

    dtype: str
    shape: Shape

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * ITEM_BITS[self.dtype] // 8


@dataclass(frozen=True)
class Header:
    tensors: dict[str, TensorSpec]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Returns names, dtypes, shapes and metadata; CnctlError where the file breaks the format."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > MAX_HEADER or length > size - 8:
            raise _broken(path, "its header is longer than the file")
        text = file.read(length)
    table = _parse(path, text)
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, "its metadata is not text")
    if len(table) > MAX_TENSORS:
        raise _broken(path, f"it lists {len(table)} tensors; {MAX_TENSORS} is the limit")
    tensors, spans = {}, []
    for name, entry in table.items():
        tensors[name], span = _entry(path, name, entry)
        spans.append(span)
    _check_spans(path, sorted(spans), size - 8 - length)
    return Header(tensors, metadata)


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise _broken(path, "its header is not JSON") from error
    if not isinstance(table, dict):
        raise _broken(path, "its header is not a JSON object")
    return table


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("duplicate key")
    return table


def _entry(path: Path, name: str, entry: Any) -> tuple[TensorSpec, tuple[int, int]]:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise _broken(path, f"the entry of {name!r} is malformed")
    if dtype not in ITEM_BITS:
        raise _broken(path, f"{name!r} has the unknown dtype {dtype!r}")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise _broken(path, f"{name!r} has an impossible shape")
    spec = TensorSpec(dtype, tuple(shape))
    if spec.nbytes != end - begin:
        raise _broken(path, f"the shape of {name!r} does not fit its bytes")
    return spec, (begin, end)


def _check_spans(path: Path, spans: list[tuple[int, int]], size: int) -> None:
    edges = [(0, 0), *spans, (size, size)]
    if any(end != begin for (_, end), (begin, _) in pairwise(edges)):
        raise _broken(
            path, "its tensors overlap, leave holes, or end before or after the file does"
        )


def _broken(path: Path, why: str) -> CnctlError:
    return CnctlError(
        f"{path} is not a whole safetensors file: {why}",
        hint="fetch or copy it again; a download may have stopped early",
    )
