"""Tensors that are read when they are needed, so that a big file needs little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch

from cnctl.tensorfiles.header import Shape, TensorSpec
from cnctl.tensorfiles.mapped import TORCH_DTYPES, Read, open_safetensors, open_torch_file
from cnctl.tensorfiles.parts import is_index, read_index


@dataclass(frozen=True)
class LazyTensor:
    """A tensor on the CPU, known before it is read."""

    dtype: torch.dtype
    shape: Shape
    read: Callable[[], torch.Tensor]

    @property
    def numel(self) -> int:
        """The number of items."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes that it has in a file."""
        return self.numel * self.dtype.itemsize

    def then(
        self, change: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype | None = None
    ) -> LazyTensor:
        """Returns this tensor with a change, which must keep the shape."""
        return replace(self, dtype=dtype or self.dtype, read=lambda: change(self.read()))


Tensors = dict[str, LazyTensor]


def ready(tensor: torch.Tensor) -> LazyTensor:
    """Returns a tensor that is in memory already."""
    return LazyTensor(tensor.dtype, tuple(tensor.shape), lambda: tensor)


def open_tensors(
    path: Path, container: str, specs: Mapping[str, TensorSpec], names: Iterable[str]
) -> Tensors:
    """Returns the named tensors of a file, or of the parts of an index, whose listing is `specs`.

    names: those in the file.
    """
    wanted = {name: specs[name] for name in names}
    if not is_index(path):
        return _open_file(path, container, wanted)
    places = read_index(path)
    opened: Tensors = {}
    for part in sorted({places[name] for name in wanted}):
        own = {name: spec for name, spec in wanted.items() if places[name] == part}
        opened |= _open_file(part, container, own)
    return {name: opened[name] for name in wanted}


def _open_file(path: Path, container: str, wanted: dict[str, TensorSpec]) -> Tensors:
    torch_file = container.startswith("torch")
    read = open_torch_file(path, wanted) if torch_file else open_safetensors(path)
    return {name: _lazy(read, name, spec) for name, spec in wanted.items()}


def _lazy(read: Read, name: str, spec: TensorSpec) -> LazyTensor:
    return LazyTensor(TORCH_DTYPES[spec.dtype], spec.shape, lambda: read(name))
