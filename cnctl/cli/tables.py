"""Tables on a terminal, and tab-separated lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import compress

from cnctl.cli.report import emit
from cnctl.errors import one_line

GAP = 2
"""Blanks between two columns."""


def on_terminal() -> bool:
    return sys.stdout.isatty()


def emit_tabs(rows: Iterable[Sequence[object]]) -> None:
    """Print one line for each row; a cell has no tab and no line break."""
    emit("\t".join(one_line(str(cell)) for cell in row) for row in rows)


def draw_table(
    title: str, columns: Sequence[str], rows: Sequence[tuple[bool, Sequence[str]]]
) -> None:
    """Draw rows; those that begin with False, what is not installed, are dim.

    A column whose name ends with ">" is aligned to the right; an empty one is left out.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left")
    table.title_style = "bold"
    filled = [any(cells[at] for _, cells in rows) for at in range(len(columns))]
    names = [*compress(columns, filled)]
    texts = [[one_line(cell) for cell in compress(cells, filled)] for _, cells in rows]
    for name, width in zip(names, _widths([names, *texts], console.width), strict=True):
        table.add_column(
            name.rstrip(">"),
            justify="right" if name.endswith(">") else "left",
            width=width,
            overflow="fold",
        )
    for (installed, _), cells in zip(rows, texts, strict=True):
        table.add_row(*map(Text, cells), style="" if installed else "dim")
    console.print(table)


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Returns widths that fit the room, at which as few words as possible are broken."""
    columns = [*zip(*rows, strict=True)]
    least = [max(_least_width(cell, column[0]) for cell in column) for column in columns]
    widths = [max(map(len, column)) for column in columns]
    while sum(widths) + GAP * (len(widths) - 1) > room and max(widths) > 1:
        yielding = [(max(width - low, 0), width) for width, low in zip(widths, least, strict=True)]
        widths[yielding.index(max(yielding))] -= 1
    return widths


def _least_width(cell: str, column: str) -> int:
    return len(cell) if column.endswith(">") else max(map(len, cell.split()), default=1)
