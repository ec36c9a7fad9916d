"""Tensors of files that are mapped into memory: a tensor needs memory only while it is in use."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from cnctl.errors import CnctlError
from cnctl.tensorfiles.header import TensorSpec
from cnctl.tensorfiles.paths import check_path
from cnctl.tensorfiles.torchfile import ByteOrder, Place, TorchListing, check_crc, list_torch_file

TORCH_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
MAPPED_BYTES = 64 << 20
"""After so many bytes a file is mapped again: pages of an old mapping count as our memory."""
Read = Callable[[str], torch.Tensor]
"""read(name): the tensor on the CPU, contiguous."""


def open_safetensors(path: Path) -> Read:
    """Returns a reader of its tensors, which raises CnctlError where the file is damaged."""
    return _Renewed(lambda: _map_safetensors(path)).read


def open_torch_file(path: Path, specs: dict[str, TensorSpec]) -> Read:
    """Returns a reader of its tensors; CnctlError where it is damaged, or not as `specs` say."""
    version = _version(os.stat(path))
    check_crc(path)
    listing = list_torch_file(path)
    if any(listing.tensors.get(name) != spec for name, spec in specs.items()):
        raise _changed(path)
    return _Renewed(lambda: _map_torch_file(path, listing, version)).read


class _Renewed:
    """A mapping that is made when it is first read, and again after MAPPED_BYTES."""

    def __init__(self, open_mapping: Callable[[], Read]) -> None:
        self._open = open_mapping
        self._read: Read | None = None
        self._seen = 0

    def read(self, name: str) -> torch.Tensor:
        if self._read is None or self._seen > MAPPED_BYTES:
            self._read, self._seen = self._open(), 0
        tensor = self._read(name)
        self._seen += tensor.nbytes
        return tensor


def _map_safetensors(path: Path) -> Read:
    def read(name: str) -> torch.Tensor:
        try:
            tensor: torch.Tensor = file.get_tensor(name)
        except SafetensorError as error:
            raise _broken(path, error) from error
        return tensor

    check_path(path)
    try:
        file = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise _broken(path, error) from error
    return read


def _map_torch_file(path: Path, listing: TorchListing, version: tuple[int, ...]) -> Read:
    with path.open("rb") as file:
        if _version(os.fstat(file.fileno())) != version:
            raise _changed(path)
        # Private: who changes such a tensor changes a copy of its pages.
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return lambda name: _view(
        mapping, listing.tensors[name], listing.places[name], listing.byteorder
    )


def _view(mapping: mmap.mmap, spec: TensorSpec, place: Place, byteorder: ByteOrder) -> torch.Tensor:
    """The tensor where it lies; a copy if it is strided, unaligned or of the other byte order."""
    dtype = TORCH_DTYPES[spec.dtype]
    if 0 in spec.shape:
        return torch.empty(spec.shape, dtype=dtype)
    # As integers: numpy has no bfloat16 or float8.
    order, size = {"little": "<", "big": ">"}[byteorder], dtype.itemsize
    strides = [size * step for step in place.stride]
    stored = np.ndarray(spec.shape, f"{order}i{size}", mapping, place.begin, strides)
    items = np.require(stored, f"=i{size}", ["C", "ALIGNED"]).ravel()
    return torch.from_numpy(items).view(dtype).reshape(spec.shape)


def _version(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _changed(path: Path) -> CnctlError:
    return CnctlError(
        f"{path} changed while it was read", hint="do not change the source during a conversion"
    )


def _broken(path: Path, error: SafetensorError) -> CnctlError:
    return CnctlError(f"{path} is not a whole safetensors file: {error}")
