"""Folders of files, which `metadata.jsonl` of their split lists as Hugging Face's imagefolder does.

The lines are kept in the records until all shards are there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from cnctl.curation.layout import SPLITS, temporary
from cnctl.curation.parts import Members, Record
from cnctl.curation.published import FULL, Published, publish, publishing, remove, size_of
from cnctl.data.folder import METADATA
from cnctl.errors import writing
from cnctl.system.atomic import sync

TEXTS = ("txt", "json")
"""Members that are in the index and no files."""
ENTRY = "entry"
"""Of a record: its line in the index."""
FILE_NAME = "_file_name"
"""Ends the names of columns that imagefolder reads as pictures."""


@contextmanager
def folder_part(path: Path) -> Iterator[FolderPart]:
    """Yield a new folder; it is removed unless it is published."""
    folder = temporary(path)
    with writing(path, hint=FULL):
        remove(folder)
        folder.mkdir(parents=True)
        try:
            yield FolderPart(path, folder)
        finally:
            remove(folder)


class FolderPart:
    """Writes each member of an example as a file."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._folder = path, folder
        self._digest = hashlib.sha256()

    def add(self, record: Record, members: Members) -> Record:
        """Write the files of an example, and put its line of the index into its record."""
        key = record["key"]
        files = {kind: data for kind, data in members.items() if kind not in TEXTS}
        for kind, data in files.items():
            name = f"{key}.{kind}"
            self._digest.update(f"{name} {_write(self._folder / name, data)}\n".encode())
        if ENTRY in record:
            return record
        return {**record, ENTRY: _entry(f"{self._path.name}/{key}", members)}

    def publish(self) -> Published:
        """Write all to the disk, and give the folder its name."""
        for path in self._folder.iterdir():
            if not path.is_symlink():
                sync(path)
        sync(self._folder)
        size = size_of(self._folder)
        remove(self._path)
        os.rename(self._folder, self._path)
        return Published(self._digest.hexdigest(), size)


def read_folder(
    path: Path, *, only: str | None = None
) -> Iterator[tuple[str, dict[str, bytes | Path]]]:
    """Yield the key and the files of each example of a folder that we have written.

    only: the key of the one that is wanted.
    """
    found = sorted(name for name in os.listdir(path) if only in (None, name.partition(".")[0]))
    for key, names in groupby(found, lambda name: name.partition(".")[0]):
        yield key, {name.partition(".")[2]: _read(path / name) for name in names}


def write_indexes(out: Path, records: Callable[[], Iterable[Record]]) -> None:
    """Write metadata.jsonl of each split; a split without examples has none.

    records: gives those of all rows, each time it is called.
    """
    for split in SPLITS:
        if not (out / split).is_dir():
            continue
        with publishing(out / split / METADATA) as file:
            for record in records():
                if not record["reason"] and record["split"] == split:
                    file.write((json.dumps(record[ENTRY], ensure_ascii=False) + "\n").encode())
            publish(file, out / split / METADATA)


def _write(path: Path, data: bytes | Path) -> str:
    if isinstance(data, Path):
        path.symlink_to(data)
        return hashlib.sha256(os.fsencode(data)).hexdigest()
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes | Path:
    return path.readlink() if path.is_symlink() else path.read_bytes()


def _entry(stem: str, members: Members) -> dict[str, Any]:
    """The line of an example."""
    image, *hints = (kind for kind in members if kind not in TEXTS and not kind.endswith(".json"))
    text, record = members["txt"], members["json"]
    assert isinstance(text, bytes)
    assert isinstance(record, bytes)
    return {
        f"image{FILE_NAME}": f"{stem}.{image}",
        **{kind.partition(".")[0] + FILE_NAME: f"{stem}.{kind}" for kind in hints},
        "prompt": text.decode(),
        **_flat(json.loads(record)),
    }


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """How the example was made, without a column that is the name of an image."""
    stored, hints = record.pop("image"), record.pop("hints")
    if len(hints) > 1:
        return {**record, "stored": stored, "hints": hints}
    ((condition, how),) = hints.items()
    return {**record, "stored": stored, "condition": condition, **how}
