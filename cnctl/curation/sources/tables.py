"""Rows of Arrow and Parquet files, as Hugging Face `datasets` writes them: images, or paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnctl.curation.rows import Place, Row
from cnctl.curation.sources.broken import broken_row
from cnctl.curation.sources.content import Content, caption_of
from cnctl.curation.sources.lists import LIST_COLUMNS, read_names
from cnctl.data.columns import FLAG, check_given
from cnctl.data.table_parts import Part, open_parts
from cnctl.errors import CnctlError, MissingError, shown
from cnctl.images import read_bytes

KIND = "cell"
SUFFIXES = frozenset({".parquet", ".arrow"})


def table_rows(source: Path, files: Sequence[Path], columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of tables; one that cannot be opened is a row, too.

    source: the folder to which paths in them are relative.
    """
    names = LIST_COLUMNS.replaced(columns)
    given = read_names(columns)
    for path in files:
        try:
            parts = _parts(path)
        except _DamagedError as error:
            yield broken_row(path.name, str(error))
            continue
        for part in parts:
            check_given(given, list(part.names), shown(path))
            image = next((name for name in names.image if name in part.names), None)
            if image is None:
                raise CnctlError(
                    f"{shown(path)} has no column {names.image[0]!r}",
                    hint=f"it has {', '.join(part.names)}; {FLAG} image=NAME names it",
                )
            caption = next((name for name in names.prompt if name in part.names), "")
            yield from _rows(source, part, image, caption)


def read(place: Place) -> Content:
    """The image of a row and its caption."""
    _, source, path, group, row, image, caption = place
    part = Part(Path(str(path)), None if group == -1 else int(group), 0, ())
    with _reading(part.path):
        value = part.cell(str(image), int(row))
        fields = {str(caption): part.cell(str(caption), int(row))} if caption else {}
    data = _bytes(value, Path(str(source)))
    text = caption_of(fields, tuple(fields))
    return Content(data, text, f"column {caption}" if text else "")


def _rows(source: Path, part: Part, image: str, caption: str) -> Iterator[Row]:
    group = -1 if part.group is None else part.group
    for row in range(part.length):
        name = f"{part.path.name}, row {row}" + f" of group {group}" * (group >= 0)
        yield Row(name, (KIND, str(source), str(part.path), group, row, image, caption))


def _parts(path: Path) -> list[Part]:
    try:
        with _reading(path):
            return open_parts(path)
    except ImportError as error:
        raise MissingError(
            f"{shown(path)} is a table, and pyarrow, which reads it, is not installed",
            hint="pip install 'cnctl[arrow]'",
        ) from error


class _DamagedError(CnctlError):
    """A table cannot be read."""


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, NotImplementedError) as error:  # bases of pyarrow's errors
        text = f"{shown(path)} cannot be read: {' '.join(str(error).split())[:200]}"
        raise _DamagedError(text, hint="copy it again") from error


def _bytes(value: Any, source: Path) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return read_bytes(source / value)
    raise CnctlError("it holds no image and names no file")
