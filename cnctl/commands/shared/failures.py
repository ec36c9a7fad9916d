"""Many inputs, some of which are bad: these are put down by name, and the rest goes on."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cnctl.errors import CnctlError, shown


@dataclass(frozen=True, kw_only=True)
class FailedImage:
    """One image that gave nothing, and why, in one sentence."""

    image: Path
    error: str


class Failures:
    """What has failed so far. alone: there is one input only, whose error is the run's."""

    def __init__(self, on_failure: Callable[[FailedImage], None], *, alone: bool) -> None:
        self.on_failure = on_failure
        self.alone = alone
        self.failed: list[FailedImage] = []

    @contextmanager
    def of(self, image: Path, *, title: str = "") -> Iterator[None]:
        """Put bad input down to this image and go on; raise what would fail every image.

        title: what to call it in a message, where that is not its path.
        """
        try:
            yield
        except CnctlError as error:
            named = _with_name(error, title or shown(image))
            if self.alone or not _is_of_the_image(error):
                raise named from error.__cause__
            failure = FailedImage(image=image, error=str(named))
            self.failed.append(failure)
            self.on_failure(failure)


def _is_of_the_image(error: CnctlError) -> bool:
    """Whether the next image may fare better."""
    too_long = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENAMETOOLONG
    return too_long or error.exit_code == CnctlError.exit_code


def _with_name(error: CnctlError, name: str) -> CnctlError:
    if name in str(error) or error.exit_code != CnctlError.exit_code:
        return error
    return type(error)(f"{name}: {error}", hint=error.hint)
