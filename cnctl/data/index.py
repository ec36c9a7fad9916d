"""The entries of an index of pairs: JSON Lines, one JSON array, or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnctl.errors import CnctlError, reading, shown
from cnctl.system.lines import decode, split_lines

TABLE = ".csv"
SUFFIXES = (".jsonl", TABLE, ".json")
"""Suffixes of an index."""


class Entry(NamedTuple):
    """where: what to call it in a message. fields: values by column."""

    where: str
    fields: Mapping[str, Any]


def read_entries(index: Path) -> Iterator[Entry]:
    """Yield the entries of an index; CnctlError names the line that cannot be read."""
    with reading(index):
        data = index.read_bytes()
    text, name = decode(data, index), shown(index)
    del data
    if index.suffix.lower() == TABLE:
        found = _from_table(text, name)
    elif text.lstrip().startswith("["):
        found = _from_array(text, name)
    else:
        found = _from_lines(text, name)
    empty = True
    for where, each in found:
        empty = False
        yield Entry(where, each if isinstance(each, dict) else {})
    if empty:
        raise CnctlError(f"{name} holds no examples", hint="it needs one line for each")


def _from_array(text: str, name: str) -> Iterator[tuple[str, Any]]:
    for number, each in enumerate(_parse(text, f"{name}, an array,"), start=1):
        yield f"entry {number} of {name}", each


def _from_lines(text: str, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {name}"
        yield where, _parse(line, where)


def _parse(text: str, where: str) -> Any:
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f" (line {error.lineno})" if "\n" in text else ""
        raise CnctlError(f"{where} is not JSON: {error.msg}{place}", hint="fix it") from error
    except ValueError as error:
        raise CnctlError(f"{where} is not JSON: {error}", hint="fix it") from error


def _without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} appears twice")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates)


def _from_table(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the rows; quotes hold commas and line feeds, blanks after a comma are skipped."""
    reader = csv.reader(io.StringIO(text), skipinitialspace=True, strict=True)
    header: list[str] = []
    while True:
        where = f"line {reader.line_num + 1} of {name}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise CnctlError(f"{where} is not CSV: {error}", hint="fix it") from error
        if row is None:
            return
        if row and header:
            yield where, _fields(header, row, where)
        elif row:
            header = _header(row, where)


def _header(row: Sequence[str], where: str) -> list[str]:
    names = [name.strip() for name in row]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CnctlError(f"{where} names the column {twice!r} twice", hint="rename one of them")
    return names


def _fields(header: Sequence[str], row: Sequence[str], where: str) -> dict[str, str]:
    if len(row) != len(header):
        raise CnctlError(
            f"{where} has {len(row)} fields, and the header {len(header)}",
            hint='quote what holds a comma: "a red ball, at night"',
        )
    return dict(zip(header, row, strict=True))
