"""Write a training folder: images/, hints/ and a line of metadata.jsonl for each pair."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from cnctl.data.examples import Example
from cnctl.data.folder import METADATA
from cnctl.errors import CnctlError, OutputError, OutputExists, writing
from cnctl.images import encode_hint, encode_image, hint_suffix, shown, write_same
from cnctl.system.locks import lock_file

IMAGE, HINT = "image_file_name", "hint_file_name"
"""Columns that Hugging Face's imagefolder reads as the pictures `image` and `hint`."""


class DatasetWriter:
    """A folder that grows by whole pairs, and can be continued after any interruption.

    A pair counts once its line is in metadata.jsonl, which is written after its files and in one
    piece. A partial line that a crash left is removed when the folder is opened again. Only one
    process at a time can write to a folder: OutputError for any other.

        with DatasetWriter(folder) as writer:
            if "holiday/cat" not in writer:
                writer.add("holiday/cat", Example(image, hint, "a cat"))
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(
                self.folder / METADATA, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644
            )
        try:
            lock_file(self._file, self.folder)
            self._entries = self._recover()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def __contains__(self, name: str) -> bool:
        """Return whether the pair of this name is in the folder."""
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, name: str) -> Mapping[str, Any]:
        """Return the line of a pair that is in the folder."""
        return self._entries[name]

    def add(self, name: str, example: Example, *, record: Mapping[str, Any] | None = None) -> None:
        """Write one pair. name: its path below images/ and hints/ without suffix, "a/b".
        record: more entries for its line, for example how the hint was made.

        Files of this name without a line are kept if they are the same, as an interruption leaves
        them. Raises OutputError where they are others or cannot be written.
        """
        if name in self._entries:
            raise CnctlError(f"{shown(name)} is already in {shown(self.folder)}")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise CnctlError(f"{shown(name)} is not below the folder")
        assert example.hint is not None, "a pair has a hint"
        image = f"images/{name}.png"
        hint = f"hints/{name}{hint_suffix(example.hint.shape[2])}"
        _write_new(self.folder / image, encode_image(example.image, ".png", {}))
        _write_new(self.folder / hint, encode_hint(example.hint, {}))
        files = {IMAGE: image, HINT: hint}
        entry = {**(record or {}), **files, "prompt": example.prompt}
        self._append(entry)
        self._entries[name] = entry

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        end = os.lseek(self._file, 0, os.SEEK_END)
        hint = "free some space and run it again; what is written is kept"
        with writing(self.folder / METADATA, hint=hint):
            try:
                if os.write(self._file, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._file, end)
                raise

    def _recover(self) -> dict[str, Mapping[str, Any]]:
        """Return the pairs of the folder by name; removes a partial last line.

        Raises OutputError where the lines are not those of such a folder.
        """
        os.lseek(self._file, 0, os.SEEK_SET)  # opening the file again would release the lock
        data = os.read(self._file, os.fstat(self._file).st_size)
        *lines, last = data.split(b"\n")
        if last and _entry(last) is not None:  # only its line feed is missing
            lines.append(last)
            os.write(self._file, b"\n")
        elif last:
            os.ftruncate(self._file, len(data) - len(last))
        entries = [(number, _entry(line)) for number, line in enumerate(lines, 1) if line.strip()]
        for number, entry in entries:
            if entry is None:
                raise OutputError(
                    f"line {number} of {shown(self.folder / METADATA)} was not written by cnctl",
                    hint="choose a new -o",
                )
        return {_name(_image(entry)): entry for _, entry in entries if entry}


def _entry(line: bytes) -> Mapping[str, Any] | None:
    """Return the entry in a line; None where it is not one that a writer has written."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(_image(entry), str) else None


def _image(entry: Mapping[str, Any]) -> Any:
    """The path of the image; earlier versions called it "image"."""
    return entry.get(IMAGE, entry.get("image"))


def _write_new(path: Path, content: bytes) -> None:
    """Write a file, or leave it where it has this content already; OutputError if another."""
    try:
        write_same(path, content)
    except OutputExists as error:
        raise OutputError(
            f"{shown(path)} exists already and {METADATA} does not list it",
            hint="remove it if it is from an interrupted run, or choose a new -o",
        ) from error


def _name(image: str) -> str:
    return image.removeprefix("images/").removesuffix(".png")
