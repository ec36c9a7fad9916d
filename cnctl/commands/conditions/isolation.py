"""What a plugin must leave alone: stdout, the network, sys.argv, the folder, random states."""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cnctl.hints.run import describe_error


def run_isolated(step: str, call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """The result (None where it raised), and what the call did that a plugin must not do."""
    result, problems = None, []
    before = _process_state()
    with _caught_stdout() as printed, _caught_network() as addresses:
        try:
            result = call()
        except (Exception, SystemExit) as error:
            problems.append(f"{step} raises {describe_error(error)}")
    if any(printed):
        problems.append(f"{step} writes to stdout, which is for data")
    problems += [f"{step} reaches for the network ({address})" for address in addresses[:1]]
    after = _process_state()
    problems += [f"{step} changes {what}" for what in before if before[what] != after[what]]
    return result, problems


@contextmanager
def restored_process() -> Iterator[None]:
    """Put sys.argv, the working folder and the global random states back."""
    arguments, folder = list(sys.argv), os.getcwd()
    states = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        sys.argv[:] = arguments
        os.chdir(folder)
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch and torch_state is not None:
            torch.set_rng_state(torch_state)


def seed_globals(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _process_state() -> dict[str, Any]:
    numpy_state: Any = np.random.get_state()
    return {
        "sys.argv": list(sys.argv),
        "the working folder": os.getcwd(),
        "the global state of random": random.getstate(),
        "the global state of numpy.random": (numpy_state[1].tobytes(), *numpy_state[2:]),
    }


@contextmanager
def _caught_stdout() -> Iterator[list[str]]:
    """Collect what Python or C code writes to stdout; the list is filled at the end."""
    printed: list[str] = []
    sys.stdout.flush()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as scratch:
        kept_descriptor, kept_stream = os.dup(1), sys.stdout
        os.dup2(scratch.fileno(), 1)
        sys.stdout = scratch
        try:
            yield printed
        finally:
            scratch.flush()
            sys.stdout = kept_stream
            os.dup2(kept_descriptor, 1)
            os.close(kept_descriptor)
            scratch.seek(0)
            printed.append(scratch.read())


@contextmanager
def _caught_network() -> Iterator[list[str]]:
    """Refuse names and connections, and collect what was asked for."""
    asked: list[str] = []

    def refuse(address: object, *_: object, **__: object) -> None:
        asked.append(str(address))
        raise OSError("no network while a condition is checked")

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(connection: socket.socket, *arguments: Any) -> Any:
            local = connection.family == getattr(socket, "AF_UNIX", None)
            return method(connection, *arguments) if local else refuse(arguments[-1])

        return call

    kept: list[tuple[object, str, Any]] = [
        *((socket, name, getattr(socket, name)) for name in ("getaddrinfo", "gethostbyname")),
        *(
            (socket.socket, n, getattr(socket.socket, n))
            for n in ("connect", "connect_ex", "sendto")
        ),
    ]
    try:
        for owner, name, original in kept:
            setattr(owner, name, refuse if owner is socket else guarded(original))
        yield asked
    finally:
        for owner, name, original in kept:
            setattr(owner, name, original)
