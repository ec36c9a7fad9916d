"""Tar files whose bytes depend on nothing but their members."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnctl.curation.parts import Members, Record
from cnctl.curation.published import HashedFile, Published, publish, publishing


@contextmanager
def tar_part(path: Path) -> Iterator[TarPart]:
    """Yield a new tar file; it is removed unless it is published."""
    with publishing(path) as file:
        yield TarPart(path, file)


class TarPart:
    """Writes examples one after another; headers name no owner and no time."""

    def __init__(self, path: Path, file: HashedFile) -> None:
        self._path, self._file = path, file

    def add(self, record: Record, members: Members) -> Record:
        """Add the members of an example, by the ends of their names."""
        for kind, data in members.items():
            assert isinstance(data, bytes), "a tar file links to nothing"
            info = tarfile.TarInfo(f"{record['key']}.{kind}")
            info.size = len(data)
            self._file.write(info.tobuf(tarfile.USTAR_FORMAT))
            self._file.write(data)
            self._file.fill(tarfile.BLOCKSIZE)
        return record

    def publish(self) -> Published:
        """Close the file and give it its name."""
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.fill(tarfile.RECORDSIZE)
        return publish(self._file, self._path)


def read_tar(
    path: Path, *, only: str | None = None
) -> Iterator[tuple[str, dict[str, bytes | Path]]]:
    """Yield the key and the members of each example of a tar file that we have written.

    only: the key of the one that is wanted; nothing is read of others.
    """
    key = ""
    members: dict[str, bytes | Path] = {}
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            found, _, kind = info.name.partition(".")
            if found != key and members:
                yield key, members
                members = {}
            key = found
            if only not in (None, key):
                continue
            content = tar.extractfile(info)
            assert content is not None
            members[kind] = content.read()
    if members:
        yield key, members
