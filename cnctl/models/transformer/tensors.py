"""The tensors of an opened source, under diffusers' names."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cnctl.models.transformer.format import Form
from cnctl.models.transformer.low_rank import complete
from cnctl.models.transformer.source import Source
from cnctl.tensorfiles.header import Shape
from cnctl.tensorfiles.lazy import LazyTensor, Tensors, open_tensors


def read_tensors(source: Source) -> Tensors:
    """All tensors of the ControlNet: diffusers' names, the file's own dtypes, not yet read."""
    names = source.full_names
    listing = {names[name]: spec for name, spec in source.tensors.items()}
    opened = open_tensors(source.path, source.container, listing, listing)
    if source.base is not None:
        own = {name: opened[full] for name, full in names.items()}
        return complete(own, {**source.base}, source.expected)
    return {
        new: _part(opened[full], number, len(news))
        for name, full in names.items()
        for news in [source.form.diffusers_names(name)]
        for number, new in enumerate(news)
    }


def rename(tensors: Tensors, expected: Mapping[str, Shape], form: Form) -> Tensors:
    """From diffusers' names to those of a form. expected: all of diffusers', in order."""
    parts: dict[str, list[LazyTensor]] = {}
    for name in expected:
        parts.setdefault(form.own_name(name), []).append(tensors[name])
    return {name: _joined(own) for name, own in parts.items()}


def _part(tensor: LazyTensor, number: int, count: int) -> LazyTensor:
    """One of so many equal parts along the first side."""
    if count == 1:
        return tensor
    rows = tensor.shape[0] // count
    return LazyTensor(
        tensor.dtype,
        (rows, *tensor.shape[1:]),
        lambda: tensor.read()[number * rows : (number + 1) * rows],
    )


def _joined(parts: list[LazyTensor]) -> LazyTensor:
    """One tensor of several along the first side."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
    return LazyTensor(first.dtype, shape, lambda: torch.cat([part.read() for part in parts]))
