"""Standard streams that are closed before a command starts: it works, and nothing goes astray."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def shell(tmp_path, environment):
    """Run `cnctl ...` by the shell in tmp_path, with these redirections."""

    def run(words: str, redirections: str) -> subprocess.CompletedProcess:
        command = f"{sys.executable} -m cnctl {words} {redirections}"
        return subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=False
        )

    return run


@pytest.mark.parametrize("redirections", ["<&- >&- 2>&-", "2>/dev/full"])
def test_hints_are_written(shell, photo, tmp_path, redirections):
    (tmp_path / "empty.png").write_bytes(b"")
    run = shell(f"annotate --cond canny {photo} empty.png", redirections)
    assert run.returncode == 3
    assert run.stdout == (b"" if ">&-" in redirections.split() else b"out/photo-canny.png\n")
    assert (tmp_path / "out" / "photo-canny.png").is_file()


def test_an_error_does_not_go_to_stdout_where_stderr_is_closed(shell):
    run = shell("conditions nosuch", "2>&-")
    assert (run.returncode, run.stdout) == (2, b"")
    run = shell("conditions nosuch", "2>/dev/full")
    assert (run.returncode, run.stdout) == (2, b"")


def test_a_listing_for_nobody_is_no_fault(shell):
    run = shell("conditions", ">&-")
    assert (run.returncode, run.stderr) == (0, b"")


def test_a_hint_for_a_closed_stdout_is_refused(shell, photo):
    run = shell(f"annotate --cond canny -o - {photo}", ">&-")
    assert run.returncode == 6
    assert run.stderr == b"cnctl: standard output is closed; name a file with -o\n"


def test_no_file_takes_the_descriptor_of_a_closed_stream(environment):
    """What libraries write to descriptor 2 would be written into that file."""
    code = """
import json, os
from cnctl.system.standard_streams import replace_closed_streams
replace_closed_streams()
os.write(1, json.dumps([os.open(os.devnull, os.O_RDONLY), os.get_inheritable(2)]).encode())
"""
    run = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" 2>&- <&-', sys.executable, code],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    descriptor, inheritable = json.loads(run.stdout)
    assert descriptor > 2
    assert inheritable
