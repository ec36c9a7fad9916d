"""Processes that train together: the rank of this one, and how the others are started.

Rank and world size come from the environment variables of torchrun, which `accelerate launch`
sets too.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from cnctl.errors import CnctlError

LIFELINE = "CNCTL_LIFELINE"
"""Set where standard input closes when the process that started this one ends."""
GRACE = 20.0
"""Seconds that processes have to end by themselves once one of them has failed."""


def rank() -> int:
    """Return the rank of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return how many processes train together, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launch(arguments: Sequence[str], count: int) -> int:
    """Run `count` processes of `cnctl` with these arguments together; return the exit code.

    SIGINT and SIGTERM are passed on to all of them. Where one fails, the others are ended and its
    code is returned: 128 plus the signal's number where it was killed.
    """
    if count < 1:
        raise CnctlError(f"num_processes is {count}; it must be at least 1")
    children = [_start(arguments, environment) for environment in _environments(count)]
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    for child in children:
        threading.Thread(target=lambda c=child: ended.put(c.wait()), daemon=True).start()

    def pass_on(number: int, _: object = None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    earlier = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = _wait(ended, count, pass_on)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        for child in children:
            child.communicate()
    return code if code >= 0 else 128 - code


def free_port() -> int:
    """Return a free port of this machine.

    It is below the ports that systems assign, so that no other program gets it before it is used.
    """
    import random  # here, for `cnctl --help` loads this module too

    with socket.socket() as probe:
        for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise CnctlError("no port of this machine is free")


def follow_the_launcher() -> None:
    """Send this process SIGTERM when the process that launched it ends for any reason."""
    if not os.environ.pop(LIFELINE, None):
        return

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _environments(count: int) -> list[dict[str, str]]:
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), LIFELINE: "1"}
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    numbers = [{"RANK": str(number), "LOCAL_RANK": str(number)} for number in range(count)]
    return [{**os.environ, **shared, **sizes, **own} for own in numbers]


def _start(arguments: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start it in a new session, so that Ctrl-C reaches it once, through this process."""
    command = [sys.executable, "-m", "cnctl", *arguments]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)


def _wait(ended: queue.SimpleQueue[int], count: int, pass_on: Callable[[int], None]) -> int:
    """Return the first exit code that is not 0; the others have GRACE seconds, then are killed."""
    code = 0
    for _ in range(count):
        try:
            next_code = ended.get(timeout=GRACE if code else None)
        except queue.Empty:
            pass_on(signal.SIGKILL)
            return code
        # NCCL may abort a process whose partner has left first; the partner knows why.
        if code in (0, -signal.SIGABRT):
            code = next_code or code
    return code
