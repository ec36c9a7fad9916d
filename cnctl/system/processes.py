"""Processes that train together: which one this is, and how the others are started.

The environment says so in torchrun's way, which `accelerate launch` follows too.
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

from cnctl.errors import CnctlError

LIFELINE = "CNCTL_LIFELINE"
"""Set where standard input ends with the process that started this one."""
GRACE = 20.0
"""Seconds in which processes may still end by themselves once one of them has failed."""


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes train together, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launch(arguments: Sequence[str], count: int) -> int:
    """Run `cnctl` with these arguments `count` times on this machine, together; the exit code.

    SIGINT and SIGTERM go on to all of them. Where one fails the others are ended, and its code is
    what is returned, 128 and the signal's number where it was killed.
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


def follow_the_launcher() -> None:
    """End as by SIGTERM when the process that has launched this one is gone, however it went."""
    if not os.environ.pop(LIFELINE, None):
        return

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _environments(count: int) -> list[dict[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, LIFELINE: "1"}
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    numbers = [{"RANK": str(number), "LOCAL_RANK": str(number)} for number in range(count)]
    return [{**os.environ, **shared, **sizes, **own} for own in numbers]


def _start(arguments: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A session of its own, so that Ctrl-C reaches it once, by us."""
    command = [sys.executable, "-m", "cnctl", *arguments]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)


def _wait(ended: queue.SimpleQueue[int], count: int, pass_on: Callable[[int], None]) -> int:
    """The first code that is not 0; the other processes are given some time to end, then killed."""
    code = 0
    for _ in range(count):
        try:
            next_code = ended.get(timeout=GRACE if code else None)
        except queue.Empty:
            pass_on(signal.SIGKILL)
            return code
        # gloo may abort a process whose partner has left first; the partner knows why.
        if code in (0, -signal.SIGABRT):
            code = next_code or code
    return code
