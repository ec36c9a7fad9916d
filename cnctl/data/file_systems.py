"""Requests to remote file systems: retried where they fail, with errors in one sentence."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from cnctl.data.urls import without_credentials
from cnctl.errors import CnctlError, MissingError, shown

T = TypeVar("T")

PAUSES = (1, 4, 15)
"""Seconds before each retry of a failed request."""
TIMEOUT = 60
"""Seconds to wait for a range."""
TEMPORARY = (408, 425, 429)
"""Status codes of temporary failures, beside the server's own (500 and up)."""
RANGE_NOT_SATISFIABLE = 416


def retry(url: str, do: Callable[[Any, str], T]) -> T:
    """Return do(file system, path) of a URL, retried while the failure may be temporary.

    Raises CnctlError, without credentials, where it fails permanently.
    """
    file_system, path = _open_file_system(url, os.getpid(), threading.get_ident())
    pauses = iter(PAUSES)
    while True:
        try:
            return do(file_system, path)
        except Exception as error:  # each file system has its own kinds
            cause = _cause(error)
            pause = next(pauses, None) if _is_temporary(cause) else None
            if pause is None:
                # The cause would print the URL with its credentials.
                raise _in_words(cause, without_credentials(url)) from None
        time.sleep(pause)


@cache
def _open_file_system(url: str, process: int, thread: int) -> tuple[Any, str]:
    """Return the file system and the path in it; each process and thread has its own.

    They are cached: a forked worker that dropped its parent's would close their connections.
    """
    import fsspec  # takes a quarter of the start of a worker that reads no URL

    protocol = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        http = protocol in ("http", "https")
        raise MissingError(
            f"{shown(without_credentials(url))} needs a package that is not installed",
            hint="pip install 'cnctl[stream]'" if http else str(error),
        ) from error
    except ValueError as error:
        raise CnctlError(
            f"{shown(without_credentials(url))}: cannot read {protocol}://",
            hint="https, s3, gs, hf and file can be read, among others",
        ) from error


def _cause(error: Exception) -> BaseException:
    """Return the cause where fsspec reports a network failure as a missing file."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:
        ours = isinstance(cause, TimeoutError) or type(cause).__module__.startswith("aiohttp")
        return cause if ours else error
    return error


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an error, if it has one."""
    response = getattr(error, "response", None)
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    return status if isinstance(status, int) else None


def _is_temporary(error: BaseException) -> bool:
    status = _status(error)
    if status is not None:
        return status in TEMPORARY or status >= 500
    return not isinstance(error, FileNotFoundError | PermissionError | NotImplementedError)


def _in_words(error: BaseException, name: str) -> CnctlError:
    """Return the error as one sentence."""
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status == 404:
        return CnctlError(f"{shown(name)}: no such shard", hint="check the name")
    if status == RANGE_NOT_SATISFIABLE:
        return cut_off(name)
    if isinstance(error, PermissionError) or status in (401, 403):
        return CnctlError(
            f"{shown(name)} cannot be read: access is denied{f' ({status})' if status else ''}",
            hint="give valid credentials, in the form that its file system expects",
        )
    tries = f", after {len(PAUSES) + 1} tries" if _is_temporary(error) else ""
    why = f"the server answers {status}" if status else _words(error)
    return CnctlError(
        f"{shown(name)} cannot be read{tries}: {why}",
        hint="try again later; --resume continues a run",
    )


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {TIMEOUT} s"
    lines = without_credentials(str(error)).splitlines()
    return shown(lines[0][:200]) if lines else type(error).__name__


def cut_off(name: str) -> CnctlError:
    """Return the error for a file that ends too early."""
    return CnctlError(
        f"{shown(name)} is shorter than it was",
        hint="restore it, or start a new run",
    )
