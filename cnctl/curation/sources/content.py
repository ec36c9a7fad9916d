"""What a row holds, once it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cnctl.data.columns import COLUMNS
from cnctl.errors import CnctlError


class Content(NamedTuple):
    """data: an image file. caption: "" for none; its_source: where the caption comes from."""

    data: bytes
    caption: str = ""
    caption_source: str = ""


def in_one_line(text: str) -> str:
    """The text with blanks and line ends joined, as prompts are kept."""
    return " ".join(text.split())


def caption_of(fields: Mapping[str, Any], names: tuple[str, ...] = COLUMNS.prompt) -> str:
    """The first of these fields that is not empty, in one line; "" where all are.

    CnctlError where it is not text: another caption would take its place.
    """
    for name in names:
        value = fields.get(name) or ""
        if not isinstance(value, str):
            raise CnctlError(f"its {name!r} is not text")
        if text := in_one_line(value):
            return text
    return ""
