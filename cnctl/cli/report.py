"""What a command says: data on stdout; notes and progress on stderr."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cnctl.errors import shown

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_SECONDS = 10.0
"""Seconds between the plain lines of progress without a terminal, at least."""
UNSAFE = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""Characters that JSON leaves as they are, and that a terminal may act on or UTF-8 cannot hold."""
UNCOLOURED = {
    "bar.back": "dim",
    "bar.complete": "default",
    "bar.finished": "default",
    "progress.elapsed": "default",
    "progress.remaining": "default",
}
"""Colours of a bar mean nothing, and some cannot be read on a white background."""

_consoles: list[Console] = []
"""Consoles of the bars that are on the terminal now."""


class Advance(Protocol):
    """advance(done, text): `done` of the total are finished; `text` says what is being done.

    label: a new one for the bar; "" keeps the last.
    """

    def __call__(self, done: int, text: str = "", *, label: str = "") -> None: ...


def emit(lines: Iterable[object]) -> None:
    """Print data, one item per line, to stdout."""
    for line in lines:
        print(line)


def emit_json(document: Any) -> None:
    """Print one JSON document to stdout; paths become strings."""
    print(_as_json(document, indent=2))


def emit_json_line(document: Any) -> None:
    """Print one JSON document as a line of stdout, as `emit_json` does."""
    print(_as_json(document, indent=None))


def _as_json(document: Any, *, indent: int | None) -> str:
    text = json.dumps(document, indent=indent, ensure_ascii=False, default=str)
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def note(text: str, *, quiet: bool = False) -> None:
    """Say something to the person, never to the pipe."""
    if quiet:
        return
    try:
        print("\n".join(map(shown, text.split("\n"))), file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError:  # a log on a full disk ends no run
        pass


def draw(sequences: str) -> None:
    """Send escape sequences to the terminal as they are, above a bar where there is one."""
    if _consoles:
        _consoles[-1].print(_AsItIs(sequences))
    else:
        print(sequences, file=sys.stderr)


@contextmanager
def progress(
    label: str,
    total: int = 100,
    *,
    unit: str = "%",
    quiet: bool = False,
    text: str = "",
    transient: bool = False,
) -> Iterator[Advance]:
    """A bar on a terminal, a plain line now and then elsewhere, nothing when quiet.

    unit: what is counted, in the plural, or "%". text: what is done first; a plain line says
    it at once. transient: whether the bar disappears at the end of the block, as one that has not
    moved does.
    """

    def count(done: int) -> str:
        return f"{done}%" if unit == "%" else f"{done} of {total} {unit}"

    if quiet:
        yield silence
    elif sys.stderr.isatty():
        with _bar(label, total, count, text=text, transient=transient) as advance:
            yield advance
    else:
        note(f"{label} {text} ...", quiet=not text)
        yield _plain(label, count)


@contextmanager
def _bar(
    label: str, total: int, count: Callable[[int], str], *, text: str, transient: bool
) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.theme import Theme

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[text]}"),
    ]
    # Lines on a terminal go above the bar; those for a pipe must not be drawn into it.
    above = sys.stdout.isatty()
    console = Console(stderr=True, theme=Theme(UNCOLOURED))
    bars = Progress(*columns, console=console, redirect_stdout=above, transient=transient)
    with bars, _drawn_on(console):
        task = bars.add_task(label, total=total, count=count(0), text=text)

        def advance(done: int, text: str = "", *, label: str = "") -> None:
            shown_now = bars.tasks[0]
            if done < shown_now.completed or label not in ("", shown_now.description):
                bars.reset(task)  # the time that is left is that of the new work
                bars.update(task, description=label or shown_now.description)
            bars.update(task, completed=done, count=count(done), text=text)

        try:
            yield advance
        finally:  # a bar that has not moved says nothing
            bars.live.transient |= not bars.tasks[0].completed


@contextmanager
def _drawn_on(console: Console) -> Iterator[None]:
    _consoles.append(console)
    try:
        yield
    finally:
        _consoles.remove(console)


@dataclass(frozen=True)
class _AsItIs:
    """What rich is to send without looking at it."""

    sequences: str

    def __rich_console__(self, console: Console, options: Any) -> Iterator[Any]:
        from rich.segment import ControlType, Segment

        yield Segment(self.sequences, None, [(ControlType.BELL,)])
        yield Segment.line()


def silence(done: int, text: str = "", *, label: str = "") -> None:
    pass


def _plain(label: str, count: Callable[[int], str]) -> Advance:
    last, shown_label = time.monotonic(), label

    def advance(done: int, text: str = "", *, label: str = "") -> None:
        nonlocal last, shown_label
        shown_label = label or shown_label
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            note(", ".join(filter(None, [f"{shown_label}: {count(done)}", text])))

    return advance
