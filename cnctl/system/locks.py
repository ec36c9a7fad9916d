"""Locks that keep two runs from writing to one place."""

from __future__ import annotations

import errno
from pathlib import Path

from cnctl.errors import OutputError, shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock_file(descriptor: int, place: Path) -> None:
    """Lock an open file while this process has it open; OutputError where another process has it.

    Does nothing where the system has no such locks. Closing another descriptor of the same file
    releases the lock.
    """
    if fcntl is None:
        return
    try:
        # A record lock: unlike flock's, forked data workers, which outlive a killed parent by some
        # seconds, do not inherit it.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise OutputError(
                f"{shown(place)} is in use by another run",
                hint="wait for it, or choose another -o",
            ) from error
