"""Which weights are being read, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

OnReading = Callable[[str, int, int], None]
"""on_reading(what, done, total): `what` is about to be read; `done` of `total` bytes have been."""


def _ignore(what: str, done: int, total: int) -> None:
    pass


_on_reading: ContextVar[OnReading] = ContextVar("on_reading", default=_ignore)


@contextmanager
def reported(on_reading: OnReading) -> Iterator[None]:
    """Call `on_reading` before each part of a base and each ControlNet that the block reads.

    A context variable, because the readers of every family lie between.
    """
    token = _on_reading.set(on_reading)
    try:
        yield
    finally:
        _on_reading.reset(token)


def report_reading(what: str, done: int, total: int) -> None:
    """Say that `what` is about to be read, after `done` of `total` bytes."""
    _on_reading.get()(what, done, total)


def size_of(place: Path) -> int:
    """The bytes of a file, or of the weights in a folder; 0 where none lie in the folder itself."""
    if place.is_file():
        return place.stat().st_size
    files = [*place.glob("*.safetensors")]
    plain = [file for file in files if ".fp16" not in file.name]
    return sum(file.stat().st_size for file in plain or files)
