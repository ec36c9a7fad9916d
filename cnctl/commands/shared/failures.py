"""Many inputs or conditions, some bad: these are recorded by name, and the others continue."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cnctl.commands.shared.events import FailedCondition, FailedImage
from cnctl.errors import CnctlError, shown
from cnctl.registry import UnknownCondition


class Failures:
    """The images that have failed so far. alone: the error of the only input is the run's."""

    def __init__(self, on_event: Callable[[FailedImage], None], *, alone: bool) -> None:
        self.on_event = on_event
        self.alone = alone
        self.failed: list[FailedImage] = []

    @contextmanager
    def of(self, image: Path, *, title: str = "") -> Iterator[None]:
        """Record bad input as a failure of this image; raise what would fail every image.

        title: its name in a message, where that is not its path.
        """
        try:
            yield
        except CnctlError as error:
            named = _with_name(error, title or shown(image))
            if self.alone or not _is_of_the_image(error):
                raise named from error.__cause__
            failure = FailedImage(image=image, error=str(named))
            self.failed.append(failure)
            self.on_event(failure)


class FailedConditions:
    """The conditions, of `count`, that cannot be used so far."""

    def __init__(self, on_event: Callable[[FailedCondition], None], *, count: int) -> None:
        self.on_event = on_event
        self.count = count
        self.failed: list[FailedCondition] = []

    @contextmanager
    def of(self, condition: str) -> Iterator[None]:
        """Record an error as a failure of this condition; raise it where no other is left.

        A name that is not known is the user's mistake, and raised.
        """
        try:
            yield
        except UnknownCondition:
            raise
        except CnctlError as error:
            if len(self.failed) + 1 == self.count:
                raise
            text = "; ".join(filter(None, [str(error), error.hint]))
            self.failed.append(FailedCondition(condition=condition, error=text))
            self.on_event(self.failed[-1])


def _is_of_the_image(error: CnctlError) -> bool:
    """Whether the error concerns this image only."""
    too_long = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENAMETOOLONG
    return too_long or error.exit_code == CnctlError.exit_code


def _with_name(error: CnctlError, name: str) -> CnctlError:
    if name in str(error) or error.exit_code != CnctlError.exit_code:
        return error
    return type(error)(f"{name}: {error}", hint=error.hint)
