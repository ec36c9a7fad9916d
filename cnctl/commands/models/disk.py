"""How much of a disk models take, each file counted once however many names it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path


def size_on_disk(paths: Iterable[Path]) -> int:
    """Returns the bytes of these files and of all files in these folders."""
    found = (path.stat() for root in paths for path in _files(root))
    return sum({(each.st_dev, each.st_ino): each.st_size for each in found}.values())


def _files(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in root.rglob("*") if path.is_file())
    elif root.is_file():
        yield root
