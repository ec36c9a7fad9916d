"""A room beside a target for what is being written, which then takes the target's place at once.

Rooms are hidden folders. What a killed run has left in one is removed by the next run that writes
to the same folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cnctl.errors import OutputError
from cnctl.system.atomic import exchange, sync

try:
    import fcntl
except ImportError:  # Windows: nobody can tell there whether a run still lives
    fcntl = None  # type: ignore[assignment]

PREFIX = ".cnctl-room-"
NEW_SECONDS = 60
"""A room this new may not be locked yet."""


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A path for a file or folder, which replaces the target when all has gone well.

    OutputError where something cannot be written; the target is then as it was.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        with _room(target.parent) as room:
            stage = room / "stage"
            yield stage
            _publish(stage, target, earlier=room / "earlier")
    except OSError as error:
        raise OutputError(
            f"could not write {target}: {error.strerror or error}",
            hint="free some space, or choose another folder",
        ) from error


@contextmanager
def _room(parent: Path) -> Iterator[Path]:
    room = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with _lock(room):
            yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


@contextmanager
def _lock(room: Path) -> Iterator[bool]:
    """Whether it could be locked; the lock goes with this process, however that ends."""
    if fcntl is None:
        yield False
        return
    descriptor = os.open(room, os.O_RDONLY)
    try:
        locked = False
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        yield locked
    finally:
        os.close(descriptor)


def _remove_leftovers(parent: Path) -> None:
    for room in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if room.is_dir() and time.time() - room.stat().st_mtime > NEW_SECONDS:
                with _lock(room) as locked:
                    if locked:
                        shutil.rmtree(room, ignore_errors=True)


def _publish(stage: Path, target: Path, *, earlier: Path) -> None:
    if not os.path.lexists(target) or not (stage.is_dir() or target.is_dir()):
        os.replace(stage, target)
    elif not exchange(stage, target):
        _replace_in_two_steps(stage, target, earlier)
    sync(target.parent)


def _replace_in_two_steps(stage: Path, target: Path, earlier: Path) -> None:
    """Where nothing else works: for a moment there is no target."""
    target.rename(earlier)
    try:
        stage.rename(target)
    except OSError:
        earlier.rename(target)
        raise
