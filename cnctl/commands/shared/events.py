"""Progress of a command as typed values: its `on_event` is called with each as it happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from cnctl.models.reading import reported


@dataclass(frozen=True)
class Note:
    """One line that a person should read."""

    text: str


@dataclass(frozen=True)
class Stage:
    """`done` of `total` parts of a stage of the work, such as "denoising", are finished."""

    what: str
    done: int
    total: int
    unit: str = field(default="", compare=False)
    """What is counted, in the plural."""
    item: str = field(default="", compare=False)
    """What is being worked on now; "" where that is not said."""

    @property
    def count(self) -> str:
        """The count in words, and what comes next."""
        return ", ".join(
            filter(None, [f"{self.done} of {self.total} {self.unit}".rstrip(), self.item])
        )


@dataclass(frozen=True)
class Loading:
    """Weights are about to be read: `done` of `total` bytes of the base, or of a ControlNet."""

    what: str
    done: int
    total: int

    @property
    def text(self) -> str:
        """What is read, and the size of all in words."""
        return f"{self.what}, {self.total / 1e6:,.0f} MB in all" if self.total else self.what

    @property
    def percent(self) -> int:
        """The share of the bytes that has been read."""
        return 100 * self.done // self.total if self.total else 0


@dataclass(frozen=True, kw_only=True)
class FailedImage:
    """One image of several gave nothing, and why, in one sentence; the others continue."""

    image: Path
    error: str


@dataclass(frozen=True, kw_only=True)
class FailedCondition:
    """One condition of several that cannot be used, and why; the others continue."""

    condition: str
    error: str


def ignore(event: object) -> None:
    """The `on_event` of a caller who wants no events."""


def loadings(on_event: Callable[[Loading], None]) -> AbstractContextManager[None]:
    """A block that reports as Loading what it reads of weights."""
    return reported(lambda *reading: on_event(Loading(*reading)))


def notes(on_event: Callable[[Note], None]) -> Callable[[str], None]:
    """A function that reports each line that it is given as a Note."""
    return lambda text: on_event(Note(text))
