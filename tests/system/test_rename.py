"""A free name goes to one of those that want it, whatever the file system can do."""

import errno
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Manager, get_context
from pathlib import Path
from threading import Barrier

import pytest

from cnctl.system import rename
from cnctl.system.rename import NameTaken, rename_new

ROUNDS = 20


@pytest.fixture(params=["rename", "link", "neither"])
def file_system(request, monkeypatch) -> str:
    """One that has renameat2's flags, one that has links only (NFS), one without both (FAT)."""
    if request.param != "rename":
        monkeypatch.setattr(rename, "_renameat2", lambda *_: False)
    if request.param == "neither":
        monkeypatch.setattr(os, "link", _no_links)
    return request.param


def _no_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _claim(folder: Path, who: int, barrier: Barrier) -> int:
    """How many of the names this process got."""
    won = 0
    for number in range(ROUNDS):
        own = folder / f"{who}-{number}"
        own.write_text(str(who))
        barrier.wait()
        try:
            rename_new(own, folder / f"name-{number}")
        except NameTaken:
            assert own.read_text() == str(who)
            own.unlink()
        else:
            won += 1
    return won


def test_of_several_processes_one_gets_a_name(file_system, tmp_path) -> None:
    with (
        Manager() as manager,
        ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool,
    ):
        barrier = manager.Barrier(3)
        won = list(pool.map(_claim, [tmp_path] * 3, range(3), [barrier] * 3))
    assert sum(won) == ROUNDS
    names = [f"name-{number}" for number in range(ROUNDS)]
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    written = [(tmp_path / name).read_text() for name in names]
    assert [written.count(str(who)) for who in range(3)] == won


def test_a_folder_with_something_in_it_stays(file_system, tmp_path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "words").write_text(name)
    with pytest.raises(NameTaken):
        rename_new(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old/words").read_text() == "old"
    rename_new(tmp_path / "new", tmp_path / "free")
    assert (tmp_path / "free/words").read_text() == "new"
