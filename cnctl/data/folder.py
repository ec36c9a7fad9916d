"""Pairs of files listed in an index: metadata.jsonl, metadata.csv or prompt.json."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.data.examples import COLUMNS, Example
from cnctl.errors import CnctlError
from cnctl.images import read_image, read_size, shown

METADATA = "metadata.jsonl"
TABLE = "metadata.csv"
FILL50K = "prompt.json"
LAYOUTS = {
    METADATA: COLUMNS,
    TABLE: COLUMNS,
    FILL50K: (("target",), ("source",), ("prompt",)),  # the original repository's names
}
"""Index files, and the names of image, hint and prompt in each."""


def open_folder(path: Path, *, read_hint: Callable[[Path | bytes], np.ndarray]) -> FolderDataset:
    """Open an index file, or the folder that holds one. Only the index is read."""
    index = _find_index(path)
    return FolderDataset(index=index, rows=tuple(_read_rows(index)), read_hint=read_hint)


def is_folder_of_pairs(path: Path) -> bool:
    """Return whether this folder has an index file."""
    return any((path / name).is_file() for name in LAYOUTS)


@dataclass(frozen=True)
class Row:
    """One line of an index."""

    image: Path
    hint: Path | None
    prompt: str


@dataclass(frozen=True)
class FolderDataset:
    """Pairs of image files."""

    index: Path
    rows: tuple[Row, ...]
    read_hint: Callable[[Path | bytes], np.ndarray]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the index file; the images are not read."""
        return hashlib.sha256(self.index.read_bytes()).hexdigest()

    @property
    def ready_hints(self) -> int:
        """How many examples include a hint."""
        return sum(row.hint is not None for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        hint = self.read_hint(row.hint) if row.hint else None
        return Example(read_image(row.image), hint, row.prompt)

    def name(self, index: int) -> str:
        """Return the image's path below the folder."""
        return shown(self.key(index))

    def key(self, index: int) -> str:
        """Return what the index calls the image, which does not depend on where the folder is."""
        return _below(self.rows[index].image, self.index.parent).as_posix()

    def image_size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of the image, which is not decoded."""
        return read_size(self.rows[index].image)

    def take(self, indices: Sequence[int]) -> FolderDataset:
        """Return a data set of these examples alone, numbered from 0."""
        return replace(self, rows=tuple(self.rows[index] for index in indices))

    def missing(self) -> list[Path]:
        """Return the files that the index names and that do not exist."""
        paths = (path for row in self.rows for path in (row.image, row.hint) if path)
        return [path for path in paths if not path.is_file()]


def _find_index(path: Path) -> Path:
    """Return the index file at this path or in this folder."""
    if path.is_file() and path.name in LAYOUTS:
        return path
    if not path.is_dir():
        raise CnctlError(
            f"--data {shown(path)}: no such folder", hint="give a folder of pairs, or scenes:2000"
        )
    for name in LAYOUTS:
        if (path / name).is_file():
            return path / name
    raise CnctlError(
        f"{shown(path)} has none of {', '.join(LAYOUTS)}, and no tables",
        hint="`cnctl annotate --dataset` makes such a folder from images",
    )


def _read_rows(index: Path) -> list[Row]:
    text = index.read_text(encoding="utf-8", errors="replace")
    entries = _from_table(text) if index.name == TABLE else _from_lines(text, index)
    rows = [_read_row(index, f"line {number} of {shown(index)}", e) for number, e in entries]
    if not rows:
        raise CnctlError(f"{shown(index)} holds no examples", hint="it needs one line for each")
    return rows


def _from_table(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text))
    return ((reader.line_num, entry) for entry in reader)


def _from_lines(text: str, index: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            where = f"line {number} of {shown(index)}"
            raise CnctlError(
                f"{where} is not JSON: {error.msg}", hint="fix or remove it"
            ) from error


def _read_row(index: Path, where: str, entry: Any) -> Row:
    columns = LAYOUTS[index.name]
    fields = entry if isinstance(entry, dict) else {}
    image, hint, prompt = (_text(fields, names, where) for names in columns)
    if not image:
        raise CnctlError(f"{where} has no {columns[0][0]!r}", hint=_how_to_write(index.name))
    return Row(
        image=index.parent / image, hint=index.parent / hint if hint else None, prompt=prompt
    )


def _text(entry: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """Return the value of the first of these names that has one, or ""."""
    name = next((name for name in names if entry.get(name)), names[0])
    value = entry.get(name) or ""
    if not isinstance(value, str):
        raise CnctlError(f"{where}: {name!r} is not text", hint="fix or remove it")
    return value


def _how_to_write(name: str) -> str:
    image, hint, prompt = (names[0] for names in LAYOUTS[name])
    if name == TABLE:
        return f"its first line names the columns: {image},{hint},{prompt}"
    sample = {image: "images/1.png", hint: "hints/1.png", prompt: "a red house"}
    return f"write {json.dumps(sample)}"


def _below(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path
