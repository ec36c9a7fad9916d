"""Image files of folders and globs, or named alone; captions are the .txt files beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from cnctl.curation.rows import Place, Row
from cnctl.curation.sources.broken import broken_row
from cnctl.curation.sources.content import Content, in_one_line
from cnctl.errors import CnctlError, reason, shown
from cnctl.images import read_bytes
from cnctl.system.lines import read_lines

KIND = "file"


def file_row(path: str | Path, name: str, *, caption: str = "", size: int = -1) -> Row:
    """The row of a file, which need not exist."""
    return Row(name, (KIND, os.fspath(path)), caption, size)


def path_of(row: Row) -> Path | None:
    """The file of a row; None for a row of another kind."""
    return Path(str(row.place[1])) if row.place[0] == KIND else None


def walk(folder: Path, *, suffixes: frozenset[str], without: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of these suffixes below a folder, and their paths in it, in natural order.

    Hidden names, links to folders and what lies in `without` are skipped. A folder below it that
    cannot be listed comes with a name that ends in "/". Only the names of one folder are in memory.
    """
    yield from _walk(os.fspath(folder), "", suffixes, os.path.abspath(without))


def found_row(path: Path, name: str) -> Row:
    """The row of a file that `walk` has found, or of a folder that cannot be listed."""
    if name.endswith("/"):
        return broken_row(name, f"{shown(path)} cannot be listed")
    return file_row(path, name, size=_size(path))


def read(place: Place) -> Content:
    """The file, and the text beside it."""
    path = Path(str(place[1]))
    if not path.is_file() and path.exists():
        raise CnctlError(f"{shown(path)} is not a file")
    sidecar = path.with_suffix(".txt")
    data = read_bytes(path)
    if not sidecar.is_file():
        return Content(data)
    return Content(data, in_one_line(" ".join(read_lines(sidecar))), "text beside the image")


def natural(text: str) -> tuple[list[tuple[str, int]], str]:
    """Sort key: frame2 before frame10."""
    parts = re.findall(r"(\D*)(\d{0,18})", text)
    return [(words.lower(), int(digits or -1)) for words, digits in parts], text


def _walk(
    folder: str, below: str, suffixes: frozenset[str], without: str
) -> Iterator[tuple[Path, str]]:
    try:
        with os.scandir(folder) as found:
            entries = [(e.name, e.is_dir(follow_symlinks=False)) for e in found if _is_shown(e)]
    except OSError as error:
        if not below:
            text = f"{shown(folder)} cannot be listed: {reason(error)}"
            raise CnctlError(text, hint="check its permissions") from error
        yield Path(folder), f"{below}/"
        return
    for name, is_folder in sorted(entries, key=lambda entry: natural(entry[0])):
        path = os.path.join(folder, name)
        relative = f"{below}/{name}" if below else name
        if is_folder and os.path.abspath(path) != without:
            yield from _walk(path, relative, suffixes, without)
        elif not is_folder and os.path.splitext(name)[1].lower() in suffixes:
            yield Path(path), relative


def _is_shown(entry: os.DirEntry[str]) -> bool:
    is_link_to_folder = entry.is_symlink() and os.path.isdir(entry.path)
    return not entry.name.startswith(".") and not is_link_to_folder


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # it is reported when it is read
        return -1
