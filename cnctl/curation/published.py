"""Files of one shard: written under a temporary name, hashed, and published by a rename."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cnctl.curation.layout import temporary
from cnctl.errors import writing

FULL = "free some space or check permissions, then run it again: whole shards are kept"


@dataclass(frozen=True)
class Published:
    """A file as it was written; or a folder, with a hash and the sum of its files."""

    sha256: str
    bytes: int


class HashedFile:
    """A new file whose content is hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)
        self._file.write(data)

    def tell(self) -> int:
        return self._size

    def fill(self, block: int) -> None:
        """Write zeros until the size is a multiple of this one."""
        self.write(bytes(-self._size % block))

    def finish(self) -> Published:
        """Write it to the disk and close it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return Published(self._hash.hexdigest(), self._size)

    def discard(self) -> None:
        """Close and remove it."""
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def publishing(path: Path) -> Iterator[HashedFile]:
    """Yield a file that `publish` moves to `path`; it is removed if that does not happen.

    Only one process at a time may write to a path. Raises OutputError where it cannot be written.
    """
    with writing(path, hint=FULL):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = HashedFile(temporary(path))
        try:
            yield file
        finally:
            file.discard()


def publish(file: HashedFile, path: Path) -> Published:
    """Finish a file and give it its name, in place of what was there."""
    found = file.finish()
    os.replace(temporary(path), path)
    return found


def size_of(path: Path) -> int:
    """The bytes of a file, or of the files in a folder; -1 where there is nothing."""
    try:
        if not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return -1


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
