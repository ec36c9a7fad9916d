"""What a plugin does to the process is undone, refused or led elsewhere."""

import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cnctl.system.isolation import isolated


def change(tmp_path: Path, error: type[BaseException] | None) -> None:
    before = state()
    os.chdir(tmp_path)
    sys.argv[:] = ["another"]
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    assert all(a != b for a, b in zip(state(), before, strict=True))
    if error:
        raise error


def state() -> list[Any]:
    return [
        os.getcwd(),
        [*sys.argv],
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    ]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_state_of_the_process_is_put_back(
    tmp_path: Path, error: type[BaseException] | None
) -> None:
    before = state()
    with pytest.raises(error) if error else nullcontext(), isolated():
        change(tmp_path, error)
    assert state() == before


def test_torch_that_a_plugin_imports_first_keeps_its_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with isolated():
        sys.modules["torch"] = torch
        torch.set_default_dtype(torch.float64)
    assert torch.get_default_dtype() == torch.float32


WRITERS = {
    "print": lambda: print("words", flush=True),
    "descriptor": lambda: os.write(1, b"words\n"),
    "child": lambda: subprocess.run(["echo", "words"], check=True),
    "C": lambda: __import__("ctypes").CDLL(None).puts(b"words"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_written_to_stdout_goes_to_stderr(
    writer: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with isolated():
        WRITERS[writer]()
    print("data")
    assert capfd.readouterr() == ("data\n", "words\n")


def connect() -> None:
    socket.create_connection(("127.0.0.1", 9))


def look_up() -> None:
    socket.getaddrinfo("example.org", 80)


@pytest.mark.parametrize("reach", [connect, look_up])
def test_the_network_is_refused_to_the_plugin_alone(reach: Callable[[], None]) -> None:
    """Data that another thread streams meanwhile come in."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        there = threading.Thread(
            target=lambda: socket.create_connection(server.getsockname()).close()
        )
        with isolated():
            there.start()
            connection, _ = server.accept()
            with pytest.raises(OSError, match="may not use the network"):
                reach()
            there.join()
        connection.close()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname()).close()


def test_the_process_is_not_ended_but_its_forks_are() -> None:
    original = os._exit
    with pytest.raises(SystemExit, match=r"os._exit\(0\)"), isolated():
        os._exit(0)
    assert os._exit is original
    with isolated():
        if not (child := os.fork()):
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
