"""Remote shards, read by ranges through fsspec: https, s3, gs, hf, file and more."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast

from cnctl.data.braces import expand_braces
from cnctl.data.file_systems import TIMEOUT, cut_off, retry
from cnctl.data.urls import HIDDEN, without_credentials
from cnctl.errors import CnctlError, shown

T = TypeVar("T")
S = TypeVar("S")

THREADS = 16
"""Requests at once."""
BLOCK = 1 << 20
"""Bytes per request while headers are read."""
VERSIONS = (
    *("ETag", "etag", "blob_id", "Content-MD5"),
    *("mtime", "LastModified", "last_modified", "Last-Modified"),
)
"""What file systems call a value that changes with a file's content, the most reliable first."""


@dataclass(frozen=True)
class RemoteShard:
    """A remote tar file.

    url: with its credentials, if any. version: changes with the content; "" where the server sends
    none.
    """

    url: str = field(repr=False)
    size: int
    version: str

    @property
    def name(self) -> str:
        """The URL without credentials."""
        return without_credentials(self.url)

    @property
    def identity(self) -> str:
        """Differs for other shards and other content; "" where the version is unknown."""
        return f"{self.name} {self.size} {self.version}" if self.version else ""

    @property
    def file_name(self) -> str:
        """The last part of the URL's path."""
        return self.name.removesuffix(f"?{HIDDEN}").rpartition("/")[2]

    def read(self, offset: int, size: int) -> bytes:
        """Return a range of it, in one request that is retried; CnctlError if it keeps failing."""
        if not size:
            return b""
        data = retry(self.url, partial(_read_range, start=offset, end=offset + size))
        if len(data) > size:
            raise _no_ranges(self.name)
        if len(data) < size:
            raise cut_off(self.name)
        return data

    def open(self) -> BinaryIO:
        """Open it to read headers: a seek costs nothing, a read one request per BLOCK."""
        if self.size and not _gives_ranges(self):
            raise _no_ranges(self.name)
        return cast(BinaryIO, io.BufferedReader(_Ranges(self), BLOCK))


class _Ranges(io.RawIOBase):
    """A shard as a raw file object."""

    def __init__(self, shard: RemoteShard) -> None:
        self._shard = shard
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._shard.size}[whence]
        self._at = begin + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._shard.size - self._at))
        buffer[:count] = self._shard.read(self._at, count)
        self._at += count
        return count


def find_remote(pattern: str) -> list[RemoteShard]:
    """Return the shards that a URL names, sorted. It may hold braces, and a glob where the server
    lists files.

    Raises CnctlError where one does not exist, MissingError where its protocol needs a package.
    """
    parts = expand_braces(pattern)
    for part in parts:
        if not without_credentials(part).removesuffix(f"?{HIDDEN}").endswith(".tar"):
            raise CnctlError(
                f"--data {shown(without_credentials(part))}: a URL names shards, which end in .tar",
                hint="for example 'https://host/data/{000..099}.tar' or 's3://bucket/data/*.tar'",
            )
    globs = [part for part in parts if _is_glob(part)]
    urls = {url for found in in_threads(_list, globs) for url in found}
    return in_threads(_look, sorted(urls.union(parts) - set(globs)))


def in_threads(do: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Return do(item) of each item, in threads; the first error is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(do, items))


def _is_glob(url: str) -> bool:
    """Return whether the path has wildcards; a query and an IPv6 host are not looked at."""
    path = url.partition("://")[2].partition("/")[2]
    return any(letter in path.partition("?")[0] for letter in "*[")


def _list(pattern: str) -> list[str]:
    """Return the URLs that a glob matches."""

    def look(file_system: Any, path: str) -> list[str]:
        return [file_system.unstrip_protocol(found) for found in file_system.glob(path)]

    found = retry(pattern, look)
    if not found:
        raise CnctlError(
            f"--data {shown(without_credentials(pattern))}: no such shard, or no list of files",
            hint="check the name; where files are not listed, give braces, {000..099}.tar",
        )
    return found


def _look(url: str) -> RemoteShard:
    """Return the shard at a URL; its content is not read."""
    info = retry(url, lambda file_system, path: file_system.info(path))
    if info.get("size") is None or info.get("partial") is False:
        raise _no_ranges(without_credentials(url))
    version = next((str(info[name]) for name in VERSIONS if info.get(name)), "")
    return RemoteShard(url, info["size"], version)


def _gives_ranges(shard: RemoteShard) -> bool:
    """Return whether the server sends ranges, without making it send the whole file."""

    def look(file_system: Any, path: str) -> bool:
        how = {"block_size": 1, "cache_type": "none", "size": shard.size}
        with file_system.open(path, "rb", **how) as file:
            file.seek(shard.size - 1)
            try:
                return len(file.read(1)) == 1
            except ValueError:  # what fsspec raises where it does not
                return False

    return retry(shard.url, look)


def _read_range(file_system: Any, path: str, *, start: int, end: int) -> bytes:
    if file_system.async_impl:
        return file_system.cat_file(path, start=start, end=end, timeout=TIMEOUT)
    # The others read ahead by megabytes unless this is set.
    with file_system.open(path, "rb", cache_type="none") as file:
        file.seek(start)
        return file.read(end - start)


def _no_ranges(name: str) -> CnctlError:
    return CnctlError(
        f"the server of {shown(name)} sends whole files only, not ranges of them",
        hint="copy the shards to this machine, or to a server that supports ranges",
    )
