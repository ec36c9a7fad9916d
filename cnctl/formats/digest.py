"""The sha256 of a file."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """In hexadecimal, as every hub shows it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """The same; the hub's cache has it as the name of what its links lead to."""
    blob = path.resolve()
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return blob.name
    return sha256(path)


class Digest:
    """A sha256 that is computed while other work goes on."""

    PENDING = "0" * 64

    def __init__(self, path: Path) -> None:
        pool = ThreadPoolExecutor(1)
        self._future: Future[str] = pool.submit(known_sha256, path)
        pool.shutdown(wait=False)

    def result(self) -> str:
        """Wait for it."""
        return self._future.result()


def resolve(record: Any, *, wait: bool) -> Any:
    """Plain values with text in place of each Digest: `Digest.PENDING` unless `wait`."""
    if isinstance(record, Digest):
        return record.result() if wait else Digest.PENDING
    if isinstance(record, dict):
        return {name: resolve(value, wait=wait) for name, value in record.items()}
    if isinstance(record, list):
        return [resolve(value, wait=wait) for value in record]
    return record
