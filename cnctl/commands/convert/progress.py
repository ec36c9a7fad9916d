"""Progress of a conversion: weights that are written, and files that are hashed meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from cnctl.commands.shared.events import Stage

OnEvent = Callable[[Stage], None]


class Meter:
    """Adds up the parts of the work, and reports them in bytes: threads do, one at a time."""

    def __init__(self, on_event: OnEvent, weights: int) -> None:
        self._on_event = on_event
        self._lock = Lock()
        self._totals: list[int] = []
        self._done: list[int] = []
        # Known before anything is read, so that the share that is done never falls much.
        self._weights = weights
        self._main = self.part(self._weights)

    def weights(self, total: int) -> Callable[[int], None]:
        """Advances the main part, in units of which there are `total`."""
        return lambda done: self._main(self._weights * done // max(1, total))

    def part(self, total: int) -> Callable[[int], None]:
        """Adds a part of so many bytes, and returns what to call with the bytes that are done."""
        with self._lock:
            self._totals.append(total)
            self._done.append(0)
            number = len(self._totals) - 1

        def advance(done: int) -> None:
            with self._lock:
                self._done[number] = max(self._done[number], done)
                self._on_event(Stage("converting", sum(self._done), sum(self._totals)))

        return advance
