"""Lists of image files: lines of text, .csv or .jsonl, read a line at a time.

Paths are relative to the list's folder; captions may stand beside them.
"""

from __future__ import annotations

import codecs
import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from cnctl.curation.rows import Row
from cnctl.curation.sources.broken import broken_row
from cnctl.curation.sources.content import caption_of
from cnctl.curation.sources.files import file_row
from cnctl.data.columns import COLUMNS, FLAG, Names, check_given
from cnctl.data.urls import is_url
from cnctl.errors import CnctlError, one_line, reading, shown
from cnctl.system.lines import MARK, is_utf8

SUFFIXES = frozenset({".txt", ".csv", ".jsonl"})
PIECE = 1 << 20
LIST_COLUMNS = COLUMNS._replace(image=(*COLUMNS.image, "path", "file", "filename"))


def read_names(columns: Mapping[str, str]) -> dict[str, str]:
    """The names that a user gives, without that of hints, which are made and not read."""
    return {role: name for role, name in columns.items() if role != "hint"}


def list_rows(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the files that a list names. columns: names by role, from `parse_columns`."""
    names = LIST_COLUMNS.replaced(columns)
    with reading(path), path.open("rb") as file:
        match path.suffix.lower():
            case ".txt":
                yield from path_rows(file, path, folder=path.parent)
            case ".csv":
                given = read_names(columns)
                yield from _from_fields(path, _table(path, file, names, given), names)
            case _:
                yield from _from_fields(path, _objects(path, file), names)


def path_rows(file: BinaryIO, name: str | Path, *, folder: Path | None = None) -> Iterator[Row]:
    """Yield the files whose paths stand in a file, one a line, or ended by NUL as `find -print0`
    writes them; they are bytes of the file system, in any encoding.

    name: the file's, for messages.
    """
    for path in _split(file, name):
        yield _row(os.fspath(folder or ""), os.fsdecode(path), "")


def _split(file: BinaryIO, name: str | Path) -> Iterator[bytes]:
    """Yield the parts between line ends, or between NULs where there is one in the beginning."""
    rest, end = _without_mark(file.read(PIECE), name), b"\n"
    if b"\0" in rest:
        end = b"\0"
    while True:
        *parts, rest = rest.split(end)
        yield from (found for part in parts if (found := _stripped(part, end)))
        piece = file.read(PIECE)
        if not piece:
            break
        rest += piece
    if last := _stripped(rest, end):
        yield last


def _stripped(part: bytes, end: bytes) -> bytes:
    return part if end == b"\0" else part.removesuffix(b"\r")


Found = tuple[str, Mapping[str, Any] | str]
"""What to call an entry, and its fields or what is wrong with it."""


def _from_fields(path: Path, entries: Iterable[Found], names: Names) -> Iterator[Row]:
    for where, fields in entries:
        if isinstance(fields, str):
            yield broken_row(where, fields)
            continue
        try:
            yield _row(os.fspath(path.parent), *_texts_of(fields, names))
        except CnctlError as error:
            yield broken_row(where, str(error))


def _texts_of(fields: Mapping[str, Any], names: Names) -> tuple[str, str]:
    """The image's path and its caption."""
    name = next((name for name in names.image if fields.get(name)), None)
    if name is None:
        raise CnctlError(f"it has no {names.image[0]!r}; {FLAG} image=NAME names it")
    if not isinstance(fields[name], str):
        raise CnctlError(f"its {name!r} is not a path")
    caption = caption_of(fields, names.prompt)
    if not is_utf8(caption):
        raise CnctlError("its caption is not UTF-8")
    return fields[name], caption


def _row(folder: str, name: str, caption: str) -> Row:
    """The row of a file, which is not looked at: a list may be long, and its files far away."""
    if is_url(name):
        return broken_row(name, "it is a URL; lists name files")
    return file_row(os.path.join(folder, name), name, caption=caption)


def _table(path: Path, file: BinaryIO, names: Names, given: Mapping[str, str]) -> Iterator[Found]:
    reader = csv.reader(_texts(path, file), skipinitialspace=True, strict=True)
    header: list[str] = []
    while True:
        first = reader.line_num + 1
        where = f"line {first} of {shown(path)}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            if reader.line_num > first:  # a quotation mark that nothing closes
                where = f"lines {first} to {reader.line_num} of {shown(path)}"
            yield where, f"not CSV: {error}"
            continue
        if row is None:
            return
        if row and not header:
            header = _checked([name.strip() for name in row], path, names)
            check_given(given, header, shown(path))
        elif row and len(row) != len(header):
            yield where, f"it has {len(row)} fields, and the header {len(header)}"
        elif row:
            yield where, dict(zip(header, row, strict=True))


def _checked(header: list[str], path: Path, names: Names) -> list[str]:
    if not set(header) & set(names.image):
        raise CnctlError(
            f"{shown(path)} has no column {names.image[0]!r}",
            hint=f"it has {', '.join(map(shown, header))}; {FLAG} image=NAME names it",
        )
    return header


def _texts(path: Path, file: BinaryIO) -> Iterator[str]:
    """Yield lines as text; bytes of names that are not UTF-8 stay what they are."""
    for line in _lines(path, file):
        yield line.decode("utf-8", "surrogateescape")


def _objects(path: Path, file: BinaryIO) -> Iterator[Found]:
    for number, text in enumerate(_lines(path, file), start=1):
        if not text.strip():
            continue
        where = f"line {number} of {shown(path)}"
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield where, f"it is not JSON: {one_line(str(error))}"
            continue
        yield where, found if isinstance(found, dict) else "it is not a JSON object"


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    for number, line in enumerate(file):
        yield line if number else _without_mark(line, path)


def _without_mark(beginning: bytes, name: str | Path) -> bytes:
    """The beginning of a list; CnctlError where it is UTF-16, as PowerShell writes lists."""
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CnctlError(f"{shown(name)} is UTF-16 text", hint="save it as UTF-8")
    return beginning.removeprefix(MARK)
