"""Tables on a terminal, and tab-separated lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import compress

from cnctl.cli.report import emit
from cnctl.errors import one_line


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

    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left")
    table.title_style = "bold"
    filled = [any(cells[at] for _, cells in rows) for at in range(len(columns))]
    for name in compress(columns, filled):
        right = name.endswith(">")
        table.add_column(
            name.rstrip(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for installed, cells in rows:
        shown = map(Text, map(one_line, compress(cells, filled)))
        table.add_row(*shown, style="" if installed else "dim")
    Console(highlight=False).print(table)
