"""Tensors that are read when they are asked for, so that a big file needs little memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from cnctl.errors import CnctlError
from cnctl.tensorfiles.header import TensorSpec, read_header
from cnctl.tensorfiles.sandbox import extract_tensors
from cnctl.tensorfiles.torchfile import check_data

Shape = tuple[int, ...]
TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
MAPPED_BYTES = 64 << 20
"""After so many bytes a file is mapped anew: pages of an old mapping count as our memory."""


@dataclass(frozen=True)
class LazyTensor:
    """A tensor on the CPU, known before it is read."""

    dtype: torch.dtype
    shape: Shape
    read: Callable[[], torch.Tensor]

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """As written."""
        return self.numel * self.dtype.itemsize

    def then(
        self, change: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype | None = None
    ) -> LazyTensor:
        """The same with a change that keeps the shape."""
        return replace(self, dtype=dtype or self.dtype, read=lambda: change(self.read()))


Tensors = dict[str, LazyTensor]


def ready(tensor: torch.Tensor) -> LazyTensor:
    """A tensor that is in memory already."""
    return LazyTensor(tensor.dtype, tuple(tensor.shape), lambda: tensor)


def open_tensors(
    path: Path, container: str, specs: Mapping[str, TensorSpec], names: Iterable[str]
) -> Tensors:
    """The named tensors of a file whose listing is `specs`; names are those in the file."""
    names = list(names)
    if container.startswith("torch"):
        return _through_child(path, {name: specs[name] for name in names})
    file = _Mapped(path)
    return {name: _lazy(file, name, specs[name]) for name in names}


def _lazy(file: _Mapped, name: str, spec: TensorSpec) -> LazyTensor:
    return LazyTensor(TORCH_DTYPES[spec.dtype], spec.shape, lambda: file.read(name))


class _Mapped:
    """A safetensors file, mapped while it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._seen = 0

    def read(self, name: str) -> torch.Tensor:
        try:
            if self._file is None or self._seen > MAPPED_BYTES:
                self._file, self._seen = safe_open(self._path, framework="pt"), 0
            tensor: torch.Tensor = self._file.get_tensor(name)
        except SafetensorError as error:
            raise CnctlError(f"{self._path} is not a whole safetensors file: {error}") from error
        self._seen += tensor.nbytes
        return tensor


def _through_child(path: Path, specs: Mapping[str, TensorSpec]) -> Tensors:
    check_data(path)
    folder = tempfile.mkdtemp(prefix="cnctl-")
    copy = Path(folder) / "tensors.safetensors"
    file = _Mapped(copy)
    weakref.finalize(file, shutil.rmtree, folder, ignore_errors=True)
    extract_tensors(path, copy, names=specs)
    # Two readers have read one file; they must have seen the same.
    if read_header(copy).tensors != specs:
        raise CnctlError(
            f"{path} was refused: it reads differently twice", hint="ask for a safetensors file"
        )
    return {name: _lazy(file, name, spec) for name, spec in specs.items()}
