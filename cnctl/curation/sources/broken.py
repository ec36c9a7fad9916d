"""A part of an input that could not be found: a row, so that it is counted, with its reason."""

from __future__ import annotations

from cnctl.curation.rows import Place, Row
from cnctl.curation.sources.content import Content
from cnctl.errors import CnctlError

KIND = "broken"


def broken_row(name: str, why: str) -> Row:
    """The row of what cannot be read."""
    return Row(name, (KIND, why))


def read(place: Place) -> Content:
    """Raise the CnctlError that was met when the input was listed."""
    raise CnctlError(str(place[1]))
