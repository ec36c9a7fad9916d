"""A row: one input of a data set, found and not yet read."""

from __future__ import annotations

import json
from typing import NamedTuple

Place = tuple[str | int, ...]
"""The kind of a source, then what this kind reads the input by; JSON can hold it."""


class Row(NamedTuple):
    """name: what records call it, its path below the input where it has one; any text.

    caption: of the list that names it, "" for none. size: bytes of its file, -1 where it is not
    known; a file that has changed is noticed by it.
    """

    name: str
    place: Place
    caption: str = ""
    size: int = -1


_encode = json.JSONEncoder(separators=(",", ":")).encode


def to_line(row: Row) -> bytes:
    """One line of JSON in ASCII, so that names which are not UTF-8 come back as they were."""
    return (_encode(row) + "\n").encode("ascii")


def from_line(line: bytes) -> Row:
    """The row of a line that `to_line` wrote."""
    name, place, caption, size = json.loads(line)
    return Row(name, tuple(place), caption, size)
