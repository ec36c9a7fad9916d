"""Lines of text for people: wrapped between words on a terminal, whole elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from shutil import get_terminal_size
from textwrap import wrap

from cnctl.cli.report import emit
from cnctl.cli.tables import on_terminal

LABELS = re.compile(r"\s*(?:\S+(?: \S+)*\s{2,})*")
"""What stands before the last column of a line; columns are two blanks or more apart."""


def emit_page(lines: Iterable[str]) -> None:
    """Print lines to stdout; on a terminal a long one continues below its last column."""
    if on_terminal():
        lines = [part for line in lines for part in wrap_line(line, get_terminal_size().columns)]
    emit(lines)


def wrap_line(line: str, width: int) -> list[str]:
    """Returns parts of at most `width` characters; words, names and paths stay whole."""
    if len(line) <= width:
        return [line]
    columns = LABELS.match(line)
    assert columns
    margin = len(line) - len(line.lstrip())
    start, indent = columns.end(), columns.end()
    if start > width // 2:
        start, indent = margin, margin + 2
    # "\0" for blanks keeps the columns as they are.
    found = wrap(
        line[:start].replace(" ", "\0") + line[start:],
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [part.replace("\0", " ") for part in found]
