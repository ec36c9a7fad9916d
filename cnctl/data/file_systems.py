"""Requests to file systems elsewhere: repeated where they fail, and told in sentences."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import fsspec

from cnctl.data.urls import without_credentials
from cnctl.errors import CnctlError, MissingError, shown

T = TypeVar("T")

PAUSES = (1, 4, 15)
"""Seconds before each further try of a request that has failed."""
PATIENCE = 60
"""Seconds that a range may take to come."""
PASSING = (408, 425, 429)
"""What a server answers where it may soon answer otherwise, beside its own faults (500 and up)."""
BEHIND_THE_END = 416


def patiently(url: str, do: Callable[[Any, str], T]) -> T:
    """Do it with the file system of a URL and its path there, again where it fails for now.

    CnctlError, in which no credentials stand, where it fails for good.
    """
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
        return cut_off(name)
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


def cut_off(name: str) -> CnctlError:
    """What to raise where a file ends too early."""
    return CnctlError(
        f"{shown(name)} has been cut off, or replaced by a shorter one",
        hint="put it back as it was",
    )
