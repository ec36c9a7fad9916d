"""What a plugin must leave alone: stdout, the network, and the state of the whole process."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cnctl.errors import MissingError, describe_error
from cnctl.system.isolation import refused_network

GRACE = 2.0
"""Seconds that threads have to end, such as those of a pool that is shutting down."""


def run_isolated(step: str, call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """The result (None where it raised), and what the call did that a plugin must not do.

    A MissingError passes: it is this machine's fault.
    """
    result, problems = None, []
    before, threads = _process_state(), set(threading.enumerate())
    with _caught_stdout() as printed, refused_network() as addresses:
        try:
            result = call()
        except MissingError:
            raise
        except (Exception, SystemExit) as error:
            problems.append(f"{step} raises {describe_error(error)}")
    if any(printed):
        problems.append(f"{step} writes to stdout, which is for data")
    problems += [f"{step} reaches for the network ({address})" for address in addresses[:1]]
    after = _process_state()
    problems += [f"{step} changes {what}" for what in before if before[what] != after[what]]
    if left := _left_running(threads):
        problems.append(f"{step} leaves a thread running: {', '.join(left)}")
    return result, problems


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
        **_torch_state(),
    }


def _torch_state() -> dict[str, Any]:
    """Torch's own states; where it is not loaded, those that it starts with."""
    torch = sys.modules.get("torch")
    return {
        "torch's default dtype": str(torch.get_default_dtype()) if torch else "torch.float32",
        "whether torch computes gradients": torch.is_grad_enabled() if torch else True,
    }


def _left_running(before: set[threading.Thread]) -> list[str]:
    """The names of threads that were started and do not end; tqdm's, which watches bars, may."""
    started = [thread for thread in threading.enumerate() if thread not in before]
    started = [thread for thread in started if type(thread).__name__ != "TMonitor"]
    deadline = time.monotonic() + GRACE
    for thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread.name for thread in started if thread.is_alive()]


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
