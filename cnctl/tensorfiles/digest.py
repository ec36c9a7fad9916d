"""The sha256 of a file, or of weights in several."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

from cnctl.tensorfiles.parts import is_index, weight_files

Advance = Callable[[int], None]
"""advance(done): called with the number of bytes read so far."""
PIECE = 1 << 20


def sha256(path: Path, *, advance: Advance = lambda done: None) -> str:
    """Returns it in hexadecimal; of an index of weights, that of its parts' own, a line each."""
    return _of_parts(path, _of_file, advance) if is_index(path) else _of_file(path, advance)


def known_sha256(path: Path, *, advance: Advance = lambda done: None) -> str:
    """Returns the same; a file of the hub's cache is a link to one that is named by its sha256."""
    return _of_parts(path, _known, advance) if is_index(path) else _known(path, advance)


def _of_parts(index: Path, of: Callable[[Path, Advance], str], advance: Advance) -> str:
    digest, before = hashlib.sha256(), 0
    for part in weight_files(index):
        digest.update(of(part, _further(advance, before)).encode() + b"\n")
        before += part.stat().st_size
    return digest.hexdigest()


def _further(advance: Advance, before: int) -> Advance:
    return lambda done: advance(before + done)


def _of_file(path: Path, advance: Advance) -> str:
    digest, piece, done = hashlib.sha256(), memoryview(bytearray(PIECE)), 0
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(piece):
            digest.update(piece[:size])
            done += size
            advance(done)
    return digest.hexdigest()


def _known(path: Path, advance: Advance) -> str:
    blob = path.resolve()
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        advance(blob.stat().st_size)
        return blob.name
    return _of_file(path, advance)


class Digest:
    """A sha256 that is computed during other work."""

    PENDING = "0" * 64

    def __init__(self, path: Path, *, advance: Advance = lambda done: None) -> None:
        self._path, self._advance = path, advance
        self._future: Future[str] = Future()
        # A daemon: when the other work has failed, nothing waits for this.
        Thread(target=self._compute, daemon=True).start()

    def _compute(self) -> None:
        try:
            self._future.set_result(known_sha256(self._path, advance=self._advance))
        except BaseException as error:
            self._future.set_exception(error)

    def result(self) -> str:
        """Returns the sha256 once it is computed."""
        return self._future.result()


def resolve(record: Any, *, wait: bool) -> Any:
    """Returns the record with text in place of each Digest: `Digest.PENDING` unless `wait`."""
    if isinstance(record, Digest):
        return record.result() if wait else Digest.PENDING
    if isinstance(record, dict):
        return {name: resolve(value, wait=wait) for name, value in record.items()}
    if isinstance(record, list):
        return [resolve(value, wait=wait) for value in record]
    return record
