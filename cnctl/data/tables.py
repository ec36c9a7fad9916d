"""Pairs in tables: a folder saved by Hugging Face `datasets`, or Parquet files.

Arrow files are mapped into memory. Parquet files are read by row groups, hundreds of images for
one, so Arrow is faster for large data sets.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.data.examples import COLUMNS, Example
from cnctl.errors import CnctlError, MissingError, shown
from cnctl.images import read_image, read_size

SAVED = "state.json"
SAVED_SPLITS = "dataset_dict.json"
SPLIT = "train"
IN_MEMORY = 4
"""Row groups kept in memory at once."""


@dataclass(frozen=True)
class Part:
    """A table: a whole Arrow file, or a row group of a Parquet file."""

    path: Path
    group: int | None
    length: int

    def cell(self, column: str, row: int) -> Any:
        """Return a value: a number, text, bytes, or a mapping of them."""
        table = _open_arrow(self.path) if self.group is None else _read(self.path, self.group)
        return table[column][row].as_py()


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
        """How many examples include a hint: all or none."""
        return len(self.rows) if self.columns[1] else 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        image, hint, prompt = (self._cell(column, index) for column in self.columns)
        picture = read_image(self._content(image, index))
        ready = None if hint is None else self.read_hint(self._content(hint, index))
        if not isinstance(prompt, str | None):
            raise CnctlError(f"{self.name(index)}: {self.columns[2]!r} is not text")
        return Example(picture, ready, prompt or "")

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


def find_tables(folder: Path) -> list[Path]:
    """Return the Arrow or Parquet files of a data set in this folder; [] where there are none.

    Where it has splits, they are those of "train".
    """
    if (folder / SAVED_SPLITS).is_file():
        folder = folder / SPLIT
        if not (folder / SAVED).is_file():
            raise CnctlError(
                f"{shown(folder.parent)} has no split {SPLIT!r}", hint="give the folder of a split"
            )
    if (folder / SAVED).is_file():
        state = json.loads((folder / SAVED).read_bytes())
        return [folder / file["filename"] for file in state["_data_files"]]
    found = sorted(folder.glob("**/*.parquet"))
    train = [path for path in found if SPLIT in (path.parent.name, path.name.split("-")[0])]
    return train or found


def open_tables(
    source: Path, files: Sequence[Path], *, read_hint: Callable[[Path | bytes], np.ndarray]
) -> TableDataset:
    """Open the data set in these files; columns are named as in an imagefolder's metadata."""
    try:
        parts = [part for path in files for part in _parts(path)]
        names = _names(parts[0]) if parts else []
    except ImportError as error:
        raise MissingError(
            f"{shown(source)} holds tables, and pyarrow, which reads them, is not installed",
            hint="pip install 'cnctl[arrow]'",
        ) from error
    except (OSError, ValueError) as error:  # the base classes of pyarrow's errors
        raise CnctlError(
            f"{shown(source)} cannot be read: {str(error).splitlines()[0]}", hint="copy it again"
        ) from error
    image, hint, prompt = (next((n for n in wanted if n in names), None) for wanted in COLUMNS)
    length = sum(part.length for part in parts)
    if image is None or not length:
        raise CnctlError(
            f"{shown(source)} has no column {COLUMNS[0][0]!r} with images",
            hint=f"it has {', '.join(names) or 'no rows'}",
        )
    return TableDataset(source, tuple(parts), (image, hint, prompt), range(length), read_hint)


def _parts(path: Path) -> list[Part]:
    if path.suffix != ".parquet":
        return [Part(path, None, _open_arrow(path).num_rows)]
    from pyarrow import parquet

    metadata = parquet.read_metadata(path)
    groups = range(metadata.num_row_groups)
    return [Part(path, group, metadata.row_group(group).num_rows) for group in groups]


def _names(part: Part) -> list[str]:
    if part.group is None:
        return _open_arrow(part.path).column_names
    from pyarrow import parquet

    return parquet.read_schema(part.path).names


@cache
def _open_arrow(path: Path) -> Any:
    """Return the table of an Arrow file, mapped into memory."""
    import pyarrow

    return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()


@lru_cache(maxsize=IN_MEMORY)
def _read(path: Path, group: int) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(path).read_row_group(group)
