"""Keep what a plugin does to the whole process from reaching anything else."""

from __future__ import annotations

import ctypes
import os
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from functools import cache
from typing import Any, NoReturn


@contextmanager
def isolated() -> Iterator[None]:
    """Run a plugin's code: stdout stays clean, the network and os._exit are refused, and the
    process is restored.

    All of that belongs to the whole process, so in any other thread than the main one nothing is
    done. Threads that a plugin leaves behind cannot be stopped.
    """
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for context in (restored_process, _stdout_to_stderr, refused_network, _refused_exit):
                stack.enter_context(context())
        yield


@contextmanager
def restored_process() -> Iterator[None]:
    """Put back sys.argv, the working folder, the random states, and torch's defaults."""
    arguments, had_torch = list(sys.argv), "torch" in sys.modules
    states = [(set_state, get_state()) for get_state, set_state in _states()]
    try:
        yield
    finally:
        sys.argv[:] = arguments
        for set_state, state in states:
            set_state(state)
        if not had_torch and (torch := sys.modules.get("torch")):
            torch.set_default_dtype(torch.float32)
            torch.set_grad_enabled(True)


@contextmanager
def refused_network() -> Iterator[list[str]]:
    """Refuse names and connections to this thread; the list collects what was asked for."""
    asked: list[str] = []
    thread = threading.get_ident()

    def guarded(original: Callable[..., Any], *, is_method: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            unix = getattr(socket, "AF_UNIX", None)
            is_local = is_method and arguments[0].family == unix
            if is_local or threading.get_ident() != thread:
                return original(*arguments, **named)
            asked.append(str(arguments[-1] if is_method else arguments[0]))
            raise OSError("a condition may not use the network")

        return call

    kept: list[tuple[Any, str]] = [
        *((socket, name) for name in ("getaddrinfo", "gethostbyname")),
        *((socket.socket, name) for name in ("connect", "connect_ex", "sendto")),
    ]
    originals = [getattr(owner, name) for owner, name in kept]
    try:
        for (owner, name), original in zip(kept, originals, strict=True):
            setattr(owner, name, guarded(original, is_method=owner is socket.socket))
        yield asked
    finally:
        for (owner, name), original in zip(kept, originals, strict=True):
            setattr(owner, name, original)


@contextmanager
def _refused_exit() -> Iterator[None]:
    """Turn os._exit, which would end this process in silence, into SystemExit; not in its forks."""
    original, process = os._exit, os.getpid()

    def leave(status: int) -> NoReturn:
        if os.getpid() != process:
            original(status)
        raise SystemExit(f"it called os._exit({status})")

    os._exit = leave
    try:
        yield
    finally:
        os._exit = original


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what Python, C code or a child process writes to stdout to stderr."""
    with redirect_stdout(sys.stderr):
        try:
            kept = os.dup(1)
        except OSError:  # stdout is closed
            yield
            return
        try:
            with suppress(OSError):  # stderr is closed
                os.dup2(2, 1)
            yield
        finally:
            _flush_c()
            os.dup2(kept, 1)
            os.close(kept)


def _states() -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """How to read, and how to set, each state of the process that plugins are known to change."""
    yield _working_folder, _return_to
    yield random.getstate, random.setstate
    if numpy := sys.modules.get("numpy"):
        yield numpy.random.get_state, numpy.random.set_state
    if torch := sys.modules.get("torch"):
        yield torch.get_rng_state, torch.set_rng_state
        yield torch.get_default_dtype, torch.set_default_dtype
        yield torch.is_grad_enabled, torch.set_grad_enabled


def _working_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it is removed
        return None


def _return_to(folder: str | None) -> None:
    if folder is not None and folder != _working_folder():
        os.chdir(folder)


@cache
def _c_library() -> Any:
    return ctypes.CDLL(None)


def _flush_c() -> None:
    """Write what C code has buffered for stdout, as long as that leads elsewhere."""
    with suppress(AttributeError, OSError, TypeError):  # Windows
        _c_library().fflush(None)
