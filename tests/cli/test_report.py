"""Progress on a terminal leaves data where they belong."""

import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

from cnctl.cli import report

SCRIPT = """
from cnctl.cli.report import draw, emit, note, progress
with progress("working", 10) as advance:
    advance(5)
    emit(["data"])
    note("a note")
    draw("\\033_Ga=T;AAAA\\033\\\\")
"""


def test_data_reach_a_pipe_while_a_bar_is_on_the_terminal() -> None:
    terminal, end = pty.openpty()
    words = [sys.executable, "-c", SCRIPT]
    environment = os.environ | {"TERM": "xterm"}
    run = subprocess.run(words, stdout=subprocess.PIPE, stderr=end, check=True, env=environment)
    os.close(end)
    seen = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert run.stdout == b"data\n"
    assert "working" in seen
    assert "a note" in seen
    assert "data" not in seen
    assert "\033_Ga=T;AAAA\033\\" in seen, "escape sequences pass as they are"


def test_a_bar_that_has_not_moved_disappears_and_one_that_has_stays(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    erased = {}
    for done in (0, 10):
        with suppress(KeyError), report.progress("working", 10) as advance:
            advance(done)
            raise KeyError
        erased[done] = capfd.readouterr().err.endswith("\x1b[2K")
    assert erased == {0: True, 10: False}


def test_progress_in_a_log_says_what_it_counts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PLAIN_SECONDS", 0.0)
    with report.progress("training", 300, unit="steps") as advance:
        advance(150, "loss 0.1")
    with report.progress("denoising") as advance:
        advance(57, "34 of 60 steps in all")
    assert capsys.readouterr().err.splitlines() == [
        "training: 150 of 300 steps, loss 0.1",
        "denoising: 57%, 34 of 60 steps in all",
    ]


def test_what_libraries_log_as_warnings_is_not_shown() -> None:
    """Python prints what is logged without a handler; what cnctl logs so is shown, once."""
    script = """
import logging
from cnctl.system.chatter import hush
hush()
hush()
logging.getLogger("cnctl").warning("a plugin is broken")
logging.getLogger("library").warning("chatter")
logging.getLogger("library").error("a failure")
logging.getLogger("torch").addHandler(logging.StreamHandler())  # as PyTorch does
logging.getLogger("torch.utils.cpp_extension").warning("No CUDA runtime is found")
logging.getLogger("torch.utils.cpp_extension").error("another")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr.split("\n") == ["a plugin is broken", "a failure", "another", ""]
