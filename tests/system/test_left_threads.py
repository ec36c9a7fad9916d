"""A thread that a plugin leaves running does not keep the program from ending."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading, time
from cnctl.system.left_threads import exit_in_spite_of_threads
threading.Thread(target=time.sleep, args=({seconds},), name="lingers").start()
print("done")
exit_in_spite_of_threads(7)
sys.exit(8)
"""


def run(seconds: float) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", PROGRAM.format(seconds=seconds)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_one_that_runs_on_is_named_and_ended() -> None:
    ended = run(1000)
    assert (ended.returncode, ended.stdout) == (7, "done\n")
    assert ended.stderr == "cnctl: a plugin left threads running: lingers\n"


def test_one_that_ends_is_waited_for() -> None:
    assert (run(0.2).returncode, run(0.2).stderr) == (8, "")
