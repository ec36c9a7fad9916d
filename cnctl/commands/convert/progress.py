"""Progress of a conversion: weights that are written, and files that are hashed meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from threading import Lock

from cnctl.models.unet.checkpoint import keymap
from cnctl.models.unet.checkpoint.architecture import Architecture

Progress = Callable[[int, int], None]
"""progress(done, total), in bytes of work. Threads call it, one at a time."""


def silence(done: int, total: int) -> None:
    """No progress."""


class Meter:
    """Adds up the parts of the work."""

    def __init__(self, progress: Progress, architecture: Architecture) -> None:
        self._progress = progress
        self._lock = Lock()
        self._totals: list[int] = []
        self._done: list[int] = []
        # Known before anything is read, so that the share that is done never falls much.
        self._weights = 4 * sum(prod(pair.shape) for pair in keymap.pairs(architecture))
        self._main = self.part(self._weights)

    def weights(self, total: int) -> Callable[[int], None]:
        """The main part, counted otherwise: it is done when `total` is, the first time."""
        return lambda done: self._main(self._weights * done // max(1, total))

    def part(self, total: int) -> Callable[[int], None]:
        """A part of so many bytes; what is given back hears how many are done, and never falls."""
        with self._lock:
            self._totals.append(total)
            self._done.append(0)
            number = len(self._totals) - 1

        def advance(done: int) -> None:
            with self._lock:
                self._done[number] = max(self._done[number], done)
                self._progress(sum(self._done), sum(self._totals))

        return advance
