"""Weights in several files, as the index beside them lists them. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from cnctl.errors import CnctlError, MissingError, reading

ENDINGS = (".index.json", ".index.fp16.json")
"""How the name of an index ends, as diffusers and transformers write it."""


def is_index(path: Path) -> bool:
    """Whether a file of this name lists the parts of weights."""
    return path.name.endswith(ENDINGS)


def read_index(index: Path) -> dict[str, Path]:
    """Return the part that holds each tensor, by the tensor's name.

    Raises MissingError that names the parts that are not there.
    """
    with reading(index, hint="fetch it again"):
        text = index.read_text(encoding="utf-8")
    try:
        table = _checked(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise CnctlError(f"{index} is not an index of weights", hint="fetch it again") from error
    missing = sorted({name for name in table.values() if not (index.parent / name).is_file()})
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise MissingError(
            f"{index.parent} lacks {len(missing)} of {len(set(table.values()))} parts of its "
            f"weights: {some}",
            hint="fetch them, or the whole folder again",
        )
    return {name: index.parent / part for name, part in table.items()}


def weight_files(path: Path) -> list[Path]:
    """Return the files that hold the tensors: the parts of an index, sorted, or the file itself."""
    return sorted(set(read_index(path).values())) if is_index(path) else [path]


def weight_bytes(path: Path) -> int:
    """Return how large the files with the tensors are together."""
    return sum(file.stat().st_size for file in weight_files(path))


def _checked(index: Any) -> Mapping[str, str]:
    """The file name of each tensor; ValueError for another file, or names that lead elsewhere."""
    table = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(table, dict) or not table:
        raise ValueError("no weight_map")
    if not all(isinstance(name, str) and PurePath(name).name == name for name in table.values()):
        raise ValueError("not a file name")
    return table
