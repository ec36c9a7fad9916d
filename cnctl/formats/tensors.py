"""The tensors of an opened source, under diffusers' names."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from cnctl.errors import CnctlError
from cnctl.formats import keymap
from cnctl.formats.header import read_header
from cnctl.formats.sandbox import extract_tensors
from cnctl.formats.source import Source

Tensors = dict[str, torch.Tensor]


def read_tensors(source: Source) -> Tensors:
    """All tensors of the ControlNet: diffusers' names, the file's own dtypes, on the CPU.

    Tensors of a safetensors file are mapped from it, and are read when they are used.
    """
    if source.container.startswith("torch"):
        tensors = _through_child(source)
    else:
        tensors = _mapped(source.path, list(source.full_names.values()))
    table = keymap.pairs(source.architecture)
    if source.form.name == "diffusers":
        return {pair.diffusers: tensors[pair.diffusers] for pair in table}
    return {pair.diffusers: tensors[source.form.prefix + pair.original] for pair in table}


def check_finite(tensors: Tensors, source: Source) -> None:
    """CnctlError names a tensor with values that are not numbers."""
    for name, tensor in tensors.items():
        values = tensor.float() if tensor.element_size() == 1 else tensor
        # The extremes pass NaN on, and are one quick pass where isfinite writes a mask.
        if values.numel() and not all(map(torch.isfinite, values.aminmax())):
            raise CnctlError(
                f"{source.path}: {name} holds values that are not finite",
                hint="the file is damaged, or its training failed; get another",
            )


def _mapped(path: Path, names: list[str]) -> Tensors:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise CnctlError(f"{path} is not a whole safetensors file: {error}") from error


def _through_child(source: Source) -> Tensors:
    names = source.full_names
    with tempfile.TemporaryDirectory(prefix="cnctl-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "tensors.safetensors"
        extract_tensors(source.path, copy, names=names.values())
        found = read_header(copy).tensors
        # Two readers have read one file; they must have seen the same.
        if {name: found.get(full) for name, full in names.items()} != source.tensors:
            raise CnctlError(
                f"{source.path} was refused: it reads differently twice",
                hint="ask for a safetensors file",
            )
        return _mapped(copy, list(names.values()))  # the mapping outlives the file's name
