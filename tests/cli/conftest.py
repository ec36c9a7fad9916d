"""The command, in this process or in its own, away from the user's settings."""

import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cnctl.cli import main

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """The environment without CNCTL_* variables and without a user's config file."""
    ours = ("CNCTL_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"XDG_CONFIG_HOME": str(tmp_path / "no-config"), "PYTHONWARNINGS": "default"}


@pytest.fixture
def command(tmp_path, environment) -> Callable[..., subprocess.Popen]:
    """Start `cnctl ...` in tmp_path; keywords go to Popen."""

    def start(*arguments: object, **settings) -> subprocess.Popen:
        defaults = {"cwd": tmp_path, "env": environment, "stderr": subprocess.PIPE}
        words = [sys.executable, "-m", "cnctl", *map(os.fspath, arguments)]
        return subprocess.Popen(words, **{"stdout": subprocess.PIPE, **defaults, **settings})

    return start


@pytest.fixture
def cnctl(tmp_path, monkeypatch) -> Run:
    """Run `cnctl ...` in tmp_path to its end, in this process; stdout and stderr are text.

    Keywords are environment variables.
    """

    def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess:
        with monkeypatch.context() as here, ExitStack() as stack:
            here.chdir(tmp_path)
            here.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
            for name in [name for name in os.environ if name.startswith("CNCTL_")]:
                here.delenv(name)
            for name, value in variables.items():
                here.setenv(name, value)
            streams = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)]
            here.setattr(sys, "stdout", streams[0])
            here.setattr(sys, "stderr", streams[1])
            with pytest.raises(SystemExit) as end:
                main(list(map(os.fspath, arguments)))
            return subprocess.CompletedProcess(arguments, end.value.code, *map(_text, streams))

    return run


@pytest.fixture
def terminal(tmp_path, environment) -> Callable[..., str]:
    """What a terminal shows of `cnctl ...`, without colours: its stdout is one."""

    def run(*arguments: object, columns: int = 80) -> str:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, columns))
        words = [sys.executable, "-m", "cnctl", *map(os.fspath, arguments)]
        settings = {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(columns)}
        process = subprocess.Popen(words, cwd=tmp_path, env=environment | settings, stdout=theirs)
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Linux says so of a terminal that nobody writes to any more
            while piece := os.read(ours, 1 << 16):
                shown += piece
        os.close(ours)
        assert process.wait() == 0
        return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")

    return run


def _text(stream) -> str:
    stream.flush()
    stream.buffer.seek(0)
    return stream.buffer.read().decode("utf-8", "surrogateescape")


@pytest.fixture
def cnctl_process(command) -> Run:
    """The same in its own process, as a shell starts it; keywords go to Popen."""

    def run(*arguments: object, input: bytes = b"", **settings) -> subprocess.CompletedProcess:
        with command(*arguments, stdin=subprocess.PIPE, **settings) as process:
            output, errors = process.communicate(input, timeout=600)
        texts = ((stream or b"").decode("utf-8", "surrogateescape") for stream in (output, errors))
        return subprocess.CompletedProcess(arguments, process.returncode, *texts)

    return run


@pytest.fixture
def photo(tmp_path) -> Path:
    """photo.png in tmp_path: a box on black, 64 x 48."""
    import numpy as np
    from PIL import Image

    image = np.zeros((48, 64, 3), np.uint8)
    image[10:30, 20:50] = (255, 255, 255)
    Image.fromarray(image).save(tmp_path / "photo.png")
    return Path("photo.png")
