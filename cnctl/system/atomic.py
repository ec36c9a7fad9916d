"""Write files and folders that appear whole or not at all, whenever the writer is killed."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cnctl.system.rename import exchange, rename_new

try:
    import fcntl
except ImportError:  # Windows: nothing there says whether a process still writes
    fcntl = None  # type: ignore[assignment]

PREFIX = ".cnctl-"


@contextmanager
def atomic_file(path: Path, *, overwrite: bool, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a file to write to, which becomes `path` in one step when the block ends.

    If the block raises, `path` is as it was and no other file is left. durable: write the content
    to the disk first. Without `overwrite` the name is claimed: of several processes one gets it,
    and the others NameTaken. Raises OSError where the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name())
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        # The folder is not synced: a rename that power loss undoes leaves no file at all.
        publish = os.replace if overwrite else rename_new
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_path(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path at which to make a file or folder, which becomes `path` in one step.

    For what takes long to write: what a killed process left beside `path` is removed here, and the
    content is on the disk when the block ends. Errors are those of `atomic_file`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    with _temporary_dir(path.parent) as folder:
        new = folder / "new"
        yield new
        _sync_all(new)
        if overwrite:
            _replace(new, path, old=folder / "old")
        else:
            rename_new(new, path)
        sync(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder; a kill in the middle leaves nothing that bears its name."""
    with _temporary_dir(path.parent) as folder:
        path.rename(folder / "old")


def temporary_name() -> str:
    """A hidden name, so that no search for images meets it, and short, as names have a limit."""
    return f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}.tmp"


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk; OSError where that fails."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _sync_all(inner)
    sync(path)


def _replace(new: Path, path: Path, *, old: Path) -> None:
    if not os.path.lexists(path) or not (new.is_dir() or path.is_dir()):
        os.replace(new, path)
    elif not exchange(new, path):
        _replace_in_two_steps(new, path, old)


def _replace_in_two_steps(new: Path, path: Path, old: Path) -> None:
    """Replace where the system has no exchange: for a moment nothing is at `path`."""
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise


@contextmanager
def _temporary_dir(parent: Path) -> Iterator[Path]:
    """Make a hidden folder, locked while this process lives and removed at the end."""
    folder, lock = _make_locked(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _make_locked(parent: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Before it is locked another process may take it for a leftover and remove it.
        with suppress(BlockingIOError, FileNotFoundError):
            lock = _lock(folder)
            folder.stat()
            return folder, lock


def _lock(folder: Path) -> int | None:
    """Lock until the returned descriptor is closed or this process ends; None: no locks here.

    Raises BlockingIOError where another process has the lock.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
