"""The tensors of an opened source, under diffusers' names."""

from __future__ import annotations

from cnctl.models.sd3 import original
from cnctl.models.sd3.source import ORIGINAL, Source
from cnctl.tensorfiles.lazy import LazyTensor, Tensors, open_tensors


def read_tensors(source: Source) -> Tensors:
    """All tensors of the ControlNet: diffusers' names, the file's own dtypes, not yet read."""
    names = source.full_names
    listing = {names[name]: spec for name, spec in source.tensors.items()}
    opened = open_tensors(source.path, source.container, listing, listing)
    found = {name: opened[full] for name, full in names.items()}
    if source.form is not ORIGINAL:
        return found
    return {
        new: _part(tensor, number, len(names))
        for name, tensor in found.items()
        for names in [original.diffusers_names(name)]
        for number, new in enumerate(names)
    }


def _part(tensor: LazyTensor, number: int, count: int) -> LazyTensor:
    """One of so many equal parts along the first side."""
    rows = tensor.shape[0] // count
    return LazyTensor(
        tensor.dtype,
        (rows, *tensor.shape[1:]),
        lambda: tensor.read()[number * rows : (number + 1) * rows],
    )
