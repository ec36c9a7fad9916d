"""Shards that lie elsewhere, read by ranges through fsspec: https, s3, gs, hf, file and more."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, BinaryIO, TypeVar, cast

import fsspec
from fsspec.asyn import AsyncFileSystem

from cnctl.dataset.braces import expand_braces
from cnctl.dataset.urls import HIDDEN, without_credentials
from cnctl.errors import CnctlError, MissingError, shown

T = TypeVar("T")
S = TypeVar("S")

PAUSES = (1, 4, 15)
"""Seconds before each further try of a request that has failed."""
PATIENCE = 60
"""Seconds that a request may take."""
THREADS = 16
"""Requests at once, of the few things that are asked of many shards."""
BLOCK = 1 << 20
"""Bytes that are read at once while headers are looked for."""
PASSING = (408, 425, 429)
"""What a server answers where it may soon answer otherwise, beside its own faults (500 and up)."""
BEHIND_THE_END = 416
VERSIONS = (
    *("ETag", "etag", "blob_id", "Content-MD5"),
    *("mtime", "LastModified", "last_modified", "Last-Modified"),
)
"""What file systems call that which changes with a file's content, the surest first."""


@dataclass(frozen=True)
class RemoteShard:
    """A file that is read where it lies.

    url: with credentials, if it has any. version: another one for other content; "" where the
    server says nothing of the kind.
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
        """What is another for another shard or other content; "" where that cannot be told."""
        return f"{self.name} {self.size} {self.version}" if self.version else ""

    @property
    def file_name(self) -> str:
        """The last part of the URL's path."""
        return self.name.removesuffix(f"?{HIDDEN}").rpartition("/")[2]

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of it, in one request that is repeated where it fails; CnctlError in the end."""
        if not size:
            return b""
        data = _patiently(self.url, partial(_read_range, start=offset, end=offset + size))
        if len(data) > size:
            raise _no_ranges(self.name)
        if len(data) < size:
            raise _cut_off(self.name)
        return data

    def open(self) -> BinaryIO:
        """To read headers from: seeks cost nothing, and reads a request for each BLOCK."""
        if self.size and not _gives_ranges(self):
            raise _no_ranges(self.name)
        return cast(BinaryIO, io.BufferedReader(_Ranges(self), BLOCK))


class _Ranges(io.RawIOBase):
    """A shard as Python's own files are."""

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
    """The shards that a URL with braces, or a glob where the server lists, names, in their order.

    CnctlError where one is not there, and MissingError where its protocol needs a package.
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
    """What it gives of each, several at once; the first error is raised and ends the others."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(do, items))


def _is_glob(url: str) -> bool:
    """A query may hold anything, and so may brackets around a host's number."""
    path = url.partition("://")[2].partition("/")[2]
    return any(letter in path.partition("?")[0] for letter in "*[")


def _list(pattern: str) -> list[str]:
    """The URLs that a glob matches."""

    def look(file_system: Any, path: str) -> list[str]:
        return [file_system.unstrip_protocol(found) for found in file_system.glob(path)]

    found = _patiently(pattern, look)
    if not found:
        raise CnctlError(
            f"--data {shown(without_credentials(pattern))}: no such shard, or no list of them",
            hint="name them by braces, for example 'https://host/data/{000..099}.tar'",
        )
    return found


def _look(url: str) -> RemoteShard:
    """The shard at a URL; nothing of it is read."""
    info = _patiently(url, lambda file_system, path: file_system.info(path))
    if info.get("size") is None or info.get("partial") is False:
        raise _no_ranges(without_credentials(url))
    version = next((str(info[name]) for name in VERSIONS if info.get(name)), "")
    return RemoteShard(url, info["size"], version)


def _gives_ranges(shard: RemoteShard) -> bool:
    """Whether the server sends the part that it is asked for. It is not made to send it all."""

    def look(file_system: Any, path: str) -> bool:
        how = {"block_size": 1, "cache_type": "none", "size": shard.size}
        with file_system.open(path, "rb", **how) as file:
            file.seek(shard.size - 1)
            try:
                return len(file.read(1)) == 1
            except ValueError:  # fsspec's word for it
                return False

    return _patiently(shard.url, look)


def _read_range(file_system: Any, path: str, *, start: int, end: int) -> bytes:
    if isinstance(file_system, AsyncFileSystem):
        return file_system.cat_file(path, start=start, end=end, timeout=PATIENCE)
    # The others read ahead by megabytes, if they are not told.
    with file_system.open(path, "rb", cache_type="none") as file:
        file.seek(start)
        return file.read(end - start)


def _patiently(url: str, do: Callable[[Any, str], T]) -> T:
    """Do it with the file system of a URL and its path there, again where it fails for now."""
    file_system, path = _open_file_system(url, os.getpid(), threading.get_ident())
    pauses = iter(PAUSES)
    while True:
        try:
            return do(file_system, path)
        except Exception as error:  # each file system has kinds of its own
            cause = _cause(error)
            pause = next(pauses, None) if _may_pass(cause) else None
            if pause is None:
                # The cause would print the URL with what is secret in it.
                raise _told(cause, without_credentials(url)) from None
        time.sleep(pause)


@cache
def _open_file_system(url: str, process: int, thread: int) -> tuple[Any, str]:
    """The file system and the path in it. Each process has its own, and each thread.

    They are kept: a forked worker that dropped its parent's would meddle with their connections.
    """
    protocol = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        http = protocol in ("http", "https")
        raise MissingError(
            f"{shown(without_credentials(url))} is read by a package that is not installed",
            hint="pip install 'cnctl[stream]'" if http else str(error),
        ) from error
    except ValueError as error:
        raise CnctlError(
            f"{shown(without_credentials(url))}: nothing is known to read {protocol}://",
            hint="https, s3, gs, hf and file are, among others",
        ) from error


def _cause(error: Exception) -> BaseException:
    """Of all that goes wrong with looking at a URL fsspec makes that there is no such file."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:
        ours = isinstance(cause, TimeoutError) or type(cause).__module__.startswith("aiohttp")
        return cause if ours else error
    return error


def _status(error: BaseException) -> int | None:
    """What a server has answered: 404, 503 and so on."""
    response = getattr(error, "response", None)
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _may_pass(error: BaseException) -> bool:
    status = _status(error)
    if status is not None:
        return status in PASSING or status >= 500
    return not isinstance(error, FileNotFoundError | PermissionError | NotImplementedError)


def _told(error: BaseException, name: str) -> CnctlError:
    """In a sentence, whatever kind it is of."""
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status == 404:
        return CnctlError(f"{shown(name)}: no such shard", hint="check the name")
    if status == BEHIND_THE_END:
        return _cut_off(name)
    if isinstance(error, PermissionError) or status in (401, 403):
        return CnctlError(
            f"{shown(name)} may not be read{f' ({status})' if status else ''}",
            hint="give credentials as its file system wants them, or valid ones",
        )
    tries = f", after {len(PAUSES) + 1} tries" if _may_pass(error) else ""
    why = f"the server answers {status}" if status else _words(error)
    return CnctlError(
        f"{shown(name)} cannot be read{tries}: {why}",
        hint="try again later; a run that was begun goes on with --resume",
    )


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {PATIENCE} s"
    lines = without_credentials(str(error)).splitlines()
    return shown(lines[0][:200]) if lines else type(error).__name__


def _cut_off(name: str) -> CnctlError:
    return CnctlError(
        f"{shown(name)} has been cut off, or replaced by a shorter one",
        hint="put it back as it was",
    )


def _no_ranges(name: str) -> CnctlError:
    return CnctlError(
        f"the server of {shown(name)} sends whole files only, and no parts of them",
        hint="copy the shards to this machine, or to a server that knows ranges",
    )
