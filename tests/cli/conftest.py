"""The installed command in a process of its own, away from the user's settings."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
def cnctl(command) -> Run:
    """Run `cnctl ...` in tmp_path to its end; stdout and stderr are text."""

    def run(*arguments: object, input: bytes = b"", **settings) -> subprocess.CompletedProcess:
        with command(*arguments, stdin=subprocess.PIPE, **settings) as process:
            output, errors = process.communicate(input, timeout=600)
        texts = ((stream or b"").decode("utf-8", "surrogateescape") for stream in (output, errors))
        return subprocess.CompletedProcess(arguments, process.returncode, *texts)

    return run


@pytest.fixture
def photo(tmp_path) -> Path:
    """photo.png in tmp_path: a box on grey, 64 x 48."""
    import numpy as np
    from PIL import Image

    image = np.full((48, 64, 3), 130, np.uint8)
    image[10:30, 20:50] = (250, 240, 20)
    Image.fromarray(image).save(tmp_path / "photo.png")
    return Path("photo.png")
