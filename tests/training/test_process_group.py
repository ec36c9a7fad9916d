"""How process groups end: threads that are left abort a process by chance when Python ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cnctl.system.processes import free_port

SCRIPT = Path(__file__).with_name("ended_groups.py")
ERRORS = {
    "done": ("", ""),
    "refused": ("CnctlError", "ReportedByOtherRank"),
    "bug": ("DeviceError", "ValueError"),
    "interrupted": ("KeyboardInterrupt", "KeyboardInterrupt"),
    "partner killed": ("DeviceError", None),
}
"""What ends the first and the second process."""


@pytest.mark.slow
def test_no_thread_outlives_the_group_however_it_ends() -> None:
    ports = [str(free_port()) for _ in ERRORS]
    processes = [
        subprocess.Popen([sys.executable, SCRIPT, rank, *ports], stdout=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 9]
    for rank, output in enumerate(outputs):
        ends = [json.loads(line) for line in output.splitlines() if line]
        expected = {way: errors[rank] for way, errors in ERRORS.items() if errors[rank] is not None}
        assert ends == [{w: {"error": e, "threads": []}} for w, e in expected.items()]
