"""Locks that keep two runs from writing to one place."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
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


class Claims:
    """Numbers that processes claim in one file, each number for one process at a time.

    A number is a byte that a record lock is on, so a process that ends for any reason gives up
    what it has claimed, and processes on other machines see it if their file system has such locks.
    Only one object per process may be open for a file: closing one gives up what all have claimed.
    Where the system has no such locks every claim is granted.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def claim(self, number: int) -> bool:
        """Claim a number; False where another process has it."""
        try:
            self._lock(number, wait=False)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True

    def release(self, number: int) -> None:
        """Give up a number."""
        if fcntl is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    @contextmanager
    def waiting_for(self, number: int) -> Iterator[None]:
        """Have a number inside the block, after waiting for the process that has it."""
        self._lock(number, wait=True)
        try:
            yield
        finally:
            self.release(number)

    def _lock(self, number: int, *, wait: bool) -> None:
        if fcntl is not None:
            how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
            fcntl.lockf(self._file, how, 1, number)
