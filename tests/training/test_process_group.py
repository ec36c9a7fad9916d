"""How process groups end: threads that are left abort a process by chance when Python ends."""

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

SCRIPT = Path(__file__).with_name("ended_groups.py")
ERRORS = {
    "done": ("", ""),
    "refused": ("CnctlError", "ReportedByOtherRank"),
    "bug": ("DeviceError", "ValueError"),
    "interrupted": ("KeyboardInterrupt", "KeyboardInterrupt"),
    "partner killed": ("DeviceError", None),
}
"""What ends the first and the second process."""


def test_no_thread_outlives_the_group_however_it_ends() -> None:
    ports = free_ports(len(ERRORS))
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


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [str(probe.getsockname()[1]) for probe in probes]
