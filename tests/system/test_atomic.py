"""What is published takes its place in one step, whenever the writer is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnctl.errors import OutputError, writing
from cnctl.system import atomic
from cnctl.system.atomic import PREFIX, atomic_file, atomic_path, remove_folder
from cnctl.system.rename import exchange

KILLED_AT_EACH_LINE = """
import os, signal, sys
from pathlib import Path
from cnctl.system import atomic


def killed_after(left):
    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename != atomic.__file__:
            return None
        if event == "line":
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

    return trace


def replace(target):
    with atomic.atomic_path(target, overwrite=True) as stage:
        stage.mkdir()
        (stage / "words").write_text("new")


target, lines = Path(sys.argv[1]), 0
while True:
    child = os.fork()
    if not child:
        sys.settrace(killed_after(lines))
        replace(target)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print((target / "words").read_text())
    (target / "words").write_text("old")
    if not status:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    lines += 1
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "words").write_text("old")
    return tmp_path / "target"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges folders in one step")
def test_a_folder_is_there_at_each_line_at_which_its_writer_is_killed(target) -> None:
    script = [sys.executable, "-c", KILLED_AT_EACH_LINE, str(target)]
    run = subprocess.run(script, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    seen = run.stdout.split()
    assert len(seen) > 20
    assert {*seen} == {"old", "new"}


def write(target: Path, text: str) -> None:
    with atomic_path(target, overwrite=True) as stage:
        stage.mkdir()
        (stage / "words").write_text(text)


def test_without_an_exchange_it_goes_in_two_steps(target, monkeypatch) -> None:
    monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    write(target, "new")
    assert (target / "words").read_text() == "new"
    assert os.listdir(target.parent) == ["target"]


def test_an_exchange_that_fails_leaves_both(target, tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        exchange(target, tmp_path / "nowhere")
    assert os.listdir(tmp_path) == ["target"]


def test_a_file_and_a_folder_take_each_others_place(target) -> None:
    with atomic_path(target, overwrite=True) as stage:
        stage.write_text("file")
    assert target.read_text() == "file"
    write(target, "folder")
    assert (target / "words").read_text() == "folder"
    assert os.listdir(target.parent) == ["target"]


def test_what_a_killed_run_has_left_is_removed_and_what_lives_is_not(target, tmp_path) -> None:
    dead = tmp_path / f"{PREFIX}dead"
    dead.mkdir()
    (dead / "stage").write_text("half")
    with atomic_path(tmp_path / "other", overwrite=False) as living:
        living.write_text("whole")
        write(target, "new")
        assert living.exists()
        assert not dead.exists()
    assert sorted(os.listdir(tmp_path)) == ["other", "target"]


def test_a_name_as_long_as_names_may_be(tmp_path) -> None:
    target = tmp_path / ("x" * 255)
    write(target, "long")
    assert (target / "words").read_text() == "long"
    longer = tmp_path / ("x" * 256)
    with pytest.raises(OutputError, match="file name too long") as caught, writing(longer):
        write(longer, "longer")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [target.name]


@pytest.mark.parametrize("kind", ["file", "path"])
def test_what_exists_stays_unless_it_may_be_replaced(tmp_path, kind) -> None:
    def write_words(text: str, *, overwrite: bool) -> None:
        if kind == "file":
            with atomic_file(tmp_path / "words", overwrite=overwrite) as file:
                file.write(text.encode())
        else:
            with atomic_path(tmp_path / "words", overwrite=overwrite) as new:
                new.write_text(text)

    write_words("first", overwrite=False)
    with pytest.raises(FileExistsError):
        write_words("second", overwrite=False)
    assert (tmp_path / "words").read_text() == "first"
    write_words("second", overwrite=True)
    assert (tmp_path / "words").read_text() == "second"
    assert os.listdir(tmp_path) == ["words"]


def test_an_exception_while_a_file_is_written_leaves_it_as_it_was(tmp_path) -> None:
    def interrupted() -> None:
        with atomic_file(tmp_path / "words", overwrite=True) as file:
            file.write(b"ne")
            raise KeyboardInterrupt

    (tmp_path / "words").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "words").read_text() == "old"
    assert os.listdir(tmp_path) == ["words"]


def test_a_folder_that_is_removed_leaves_nothing(target) -> None:
    remove_folder(target)
    assert os.listdir(target.parent) == []
