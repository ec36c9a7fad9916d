"""Keep two runs from writing to one place."""

from __future__ import annotations

import errno
from pathlib import Path

from cnctl.errors import OutputError, shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock_file(descriptor: int, place: Path) -> None:
    """Lock an open file for as long as this process has it open; OutputError where another has it.

    Where the system has no such locks nothing happens. Closing another descriptor of the same file
    gives the lock up.
    """
    if fcntl is None:
        return
    try:
        # A record lock: unlike flock's it is not handed on to forked data workers, which outlive
        # a killed parent by some seconds.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise OutputError(
                f"{shown(place)} is in use by another run",
                hint="wait for it, or choose another -o",
            ) from error
