"""Arrow and Parquet files: their columns, and single values of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

PARQUET = ".parquet"
IN_MEMORY = 4
"""Row groups kept in memory at once."""


@dataclass(frozen=True)
class Part:
    """A table: a whole Arrow file, or a row group of a Parquet file."""

    path: Path
    group: int | None
    length: int
    names: tuple[str, ...]

    def cell(self, column: str, row: int) -> Any:
        """Return a value: a number, text, bytes, or a mapping of them."""
        table = _open_arrow(self.path) if self.group is None else _read(self.path, self.group)
        return table[column][row].as_py()

    def empty(self, column: str) -> list[int]:
        """Return the rows without a value, or with blank text; of statistics where they do."""
        if self.group is not None and _is_full(self.path, self.group, column):
            return []
        if self.group is None:
            values = _open_arrow(self.path)[column]
        else:
            values = _read_column(self.path, self.group, column)
        return np.flatnonzero(_is_empty(values)).tolist()


def open_parts(path: Path) -> list[Part]:
    """Return the tables in a file; ImportError without pyarrow, or an error of pyarrow's."""
    if path.suffix.lower() != PARQUET:
        table = _open_arrow(path)
        return [Part(path, None, table.num_rows, tuple(table.column_names))]
    metadata = _metadata(path)
    names = tuple(metadata.schema.to_arrow_schema().names)
    groups = range(metadata.num_row_groups)
    return [Part(path, group, metadata.row_group(group).num_rows, names) for group in groups]


def _is_full(path: Path, group: int, column: str) -> bool:
    """Return whether a Parquet file's statistics say that images are in every row."""
    import pyarrow

    metadata = _metadata(path)
    kind = metadata.schema.to_arrow_schema().field(column).type
    if not (pyarrow.types.is_struct(kind) or pyarrow.types.is_binary(kind)):
        return False  # no statistics count blank text
    found = metadata.row_group(group)
    leaves = (found.column(number) for number in range(found.num_columns))
    return any(
        leaf.path_in_schema.split(".")[0] == column
        and leaf.is_stats_set
        and leaf.statistics.has_null_count
        and leaf.statistics.null_count == 0
        for leaf in leaves
    )


def _is_empty(values: Any) -> np.ndarray:
    """Return whether each of these values is null or blank text, bool (N,)."""
    import pyarrow
    from pyarrow import compute

    empty = values.is_null()
    if pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
        blank = compute.equal(compute.utf8_trim_whitespace(values), "")
        empty = compute.or_(empty, compute.fill_null(blank, True))
    return empty.to_numpy()


@cache
def _metadata(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_metadata(path)


@cache
def _open_arrow(path: Path) -> Any:
    """Return the table of an Arrow file, mapped into memory."""
    import pyarrow

    return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()


@lru_cache(maxsize=IN_MEMORY)
def _read(path: Path, group: int) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(path).read_row_group(group)


def _read_column(path: Path, group: int, column: str) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(path).read_row_group(group, columns=[column])[column]
