"""Pairs in tables: a folder saved by Hugging Face `datasets`, or Parquet files.

Arrow files are mapped into memory. Parquet files are read by row groups, hundreds of images for
one, so Arrow is faster for large data sets.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.data.columns import (
    COLUMNS,
    FLAG,
    check_given,
    names_image,
    unread_hints,
    unread_names,
)
from cnctl.data.examples import Example
from cnctl.data.problems import Problem
from cnctl.data.table_parts import PARQUET, Part, open_parts
from cnctl.errors import CnctlError, MissingError, counted, reading, shown
from cnctl.images import read_image, read_size

SAVED = "state.json"
SAVED_SPLITS = "dataset_dict.json"
SPLIT = "train"
FIRST = 8
"""Rows whose values show whether a column holds images."""


@dataclass(frozen=True)
class TableDataset:
    """Pairs in tables. columns: those of image, hint and prompt; None where there is none.

    rows: the rows that the data set consists of, numbered over all parts.
    """

    source: Path
    parts: tuple[Part, ...]
    columns: tuple[str, str | None, str | None]
    rows: Sequence[int]
    read_hint: Callable[[Path | bytes], np.ndarray]
    problems: tuple[Problem, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the files' names and sizes and of the rows; the files are not read."""
        found = hashlib.sha256()
        for part in self.parts:
            found.update(f"{part.path.name} {part.path.stat().st_size} {part.length}\n".encode())
        found.update(np.asarray(self.rows, np.int64).tobytes())
        return found.hexdigest()

    @property
    def ready_hints(self) -> int:
        """How many examples include a hint."""
        return self._count(self.columns[1])

    @property
    def ready_prompts(self) -> int:
        """How many examples include a prompt."""
        return self._count(self.columns[2])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        image, hint = (self._cell(column, index) for column in self.columns[:2])
        picture = read_image(self._content(image, index))
        ready = None if hint is None else self.read_hint(self._content(hint, index))
        return Example(picture, ready, self.prompt(index))

    def prompt(self, index: int) -> str:
        """Return the prompt alone; the image is not read."""
        prompt = self._cell(self.columns[2], index)
        if not isinstance(prompt, str | None):
            raise CnctlError(f"{self.name(index)}: {self.columns[2]!r} is not text")
        return prompt or ""

    def name(self, index: int) -> str:
        """Return the folder and the row."""
        return f"{shown(self.source)}, row {self.rows[index]}"

    def key(self, index: int) -> str:
        """Return the row's number, which does not depend on where the folder is."""
        return str(self.rows[index])

    def image_size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of the image, which is not decoded."""
        return read_size(self._content(self._cell(self.columns[0], index), index))

    def take(self, indices: Sequence[int]) -> TableDataset:
        """Return a data set of these examples alone, numbered from 0."""
        return replace(self, rows=tuple(self.rows[index] for index in indices))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(part.length for part in self.parts))

    def _count(self, column: str | None) -> int:
        """Return how many examples have a value in this column."""
        return sum(row not in self._empty[column] for row in self.rows) if column else 0

    @cached_property
    def _empty(self) -> dict[str, set[int]]:
        """Rows without a value, by column."""
        starts = [end - part.length for end, part in zip(self._ends, self.parts, strict=True)]
        return {
            column: {
                start + row
                for start, part in zip(starts, self.parts, strict=True)
                for row in part.empty(column)
            }
            for column in self.columns[1:]
            if column
        }

    def _cell(self, column: str | None, index: int) -> Any:
        row = self.rows[index]
        number = bisect_right(self._ends, row)
        before = self._ends[number - 1] if number else 0
        return self.parts[number].cell(column, row - before) if column else None

    def _content(self, value: Any, index: int) -> bytes | Path:
        """Return the bytes of an image, or the path of its file."""
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            return self.source / value
        if isinstance(value, bytes):
            return value
        raise CnctlError(
            f"{self.name(index)} holds no image", hint="save the data set with its images in it"
        )


def find_tables(folder: Path, note: Callable[[str], None] = lambda text: None) -> list[Path]:
    """Return the Arrow or Parquet files of a data set in this folder; [] where there are none.

    Where it has splits, they are those of "train"; note reports which files are then not read.
    CnctlError where the folder cannot be read.
    """
    with reading(folder):
        return _tables_in(folder, note)


def _tables_in(folder: Path, note: Callable[[str], None]) -> list[Path]:
    if (folder / SAVED_SPLITS).is_file():
        folder = folder / SPLIT
        if not (folder / SAVED).is_file():
            raise CnctlError(
                f"{shown(folder.parent)} has no split {SPLIT!r}", hint="give the folder of a split"
            )
    if (folder / SAVED).is_file():
        state = json.loads((folder / SAVED).read_bytes())
        return [folder / file["filename"] for file in state["_data_files"]]
    found = sorted(folder.glob(f"**/*{PARQUET}"))
    train = [path for path in found if SPLIT in (path.parent.name, path.name.split("-")[0])]
    if train and len(train) < len(found):
        others = [shown(path.relative_to(folder)) for path in found if path not in train]
        more = f" and {counted(len(others) - 1, 'more file')}" * (len(others) > 1)
        note(f"only the split {SPLIT!r} is read, and not {others[0]}{more}")
    return train or found


def open_tables(
    source: Path,
    files: Sequence[Path],
    given: Mapping[str, str],
    *,
    read_hint: Callable[[Path | bytes], np.ndarray],
) -> TableDataset:
    """Open the data set in these files. given: names of columns, from `parse_columns`."""
    parts = _open_parts(source, files)
    names = list(dict.fromkeys(name for part in parts for name in part.names))
    check_given(given, names, shown(source))
    image, hint, prompt = (
        next((name for name in wanted if name in names), None) for wanted in COLUMNS.replaced(given)
    )
    length = sum(part.length for part in parts)
    if image is None or not length:
        raise CnctlError(
            f"{shown(source)} has no column {COLUMNS.image[0]!r} with images",
            hint=f"it has {', '.join(names) or 'no rows'}; {FLAG} image=NAME names it",
        )
    columns = (image, hint, prompt)
    for part in parts:
        _check_names(part, columns, parts)
    dataset = TableDataset(source, tuple(parts), columns, range(length), read_hint)
    unread = [name for name in names if name not in columns]
    return replace(dataset, problems=tuple(_problems(dataset, unread, is_given="hint" in given)))


def _open_parts(source: Path, files: Sequence[Path]) -> list[Part]:
    try:
        return [part for path in files for part in _parts_of(path)]
    except ImportError as error:
        raise MissingError(
            f"{shown(source)} holds tables, and pyarrow, which reads them, is not installed",
            hint="pip install 'cnctl[arrow]'",
        ) from error


def _parts_of(path: Path) -> list[Part]:
    try:
        return open_parts(path)
    except (OSError, ValueError) as error:  # the base classes of pyarrow's errors
        raise CnctlError(
            f"{shown(path)} cannot be read: {str(error).splitlines()[0]}", hint="copy it again"
        ) from error


def _check_names(part: Part, columns: Sequence[str | None], parts: Sequence[Part]) -> None:
    """Raise CnctlError where a part has not got a column that is read from other parts."""
    for name in columns:
        if name and name not in part.names:
            other = next(each for each in parts if name in each.names)
            raise CnctlError(
                f"{shown(part.path)} has no column {name!r}, which {shown(other.path.name)} has",
                hint="write all parts with the same columns, or take this one out",
            )


def _problems(dataset: TableDataset, unread: Sequence[str], *, is_given: bool) -> Iterator[Problem]:
    """Yield the columns that are not read, and one that may hold hints where they are missing."""
    source = shown(dataset.source)
    if not is_given and dataset.ready_hints < len(dataset):
        first = dataset.parts[0]
        candidate = next((name for name in unread if _holds_images(first, name)), None)
        if candidate:
            missing = len(dataset) - dataset.ready_hints
            yield unread_hints(source, candidate, count=missing, examples=len(dataset))
    yield from unread_names(source, "columns", unread)


def _holds_images(part: Part, name: str) -> bool:
    """Return whether one of the column's first values seems to be an image."""
    rows = range(min(FIRST, part.length)) if name in part.names else ()
    return any(names_image(part.cell(name, row)) for row in rows)
