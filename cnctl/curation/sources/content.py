"""What a row holds, once it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cnctl.data.columns import COLUMNS


class Content(NamedTuple):
    """data: an image file. caption: "" for none; its_source: where the caption comes from."""

    data: bytes
    caption: str = ""
    caption_source: str = ""


def in_one_line(text: str) -> str:
    """The text with blanks and line ends joined, as prompts are kept."""
    return " ".join(text.split())


def caption_of(fields: Mapping[str, Any], names: tuple[str, ...] = COLUMNS.prompt) -> str:
    """The first of these fields that holds text, in one line; "" where none does."""
    values = (fields.get(name) for name in names)
    found = (in_one_line(value) for value in values if isinstance(value, str))
    return next(filter(None, found), "")
