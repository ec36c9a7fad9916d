import multiprocessing
import time
from pathlib import Path

import pytest

from cnctl.data.kept_indexes import is_kept, keep_index
from cnctl.data.members import Listing, Member

LISTING = Listing([Member("a\udc80.png", 512, 9, (3, 4)), Member("a.txt", 1536, 0)], "cut off")


def make_slowly(log: Path) -> Listing:
    with log.open("a") as file:
        file.write("made\n")
    time.sleep(0.3)
    return LISTING


def keep(log: Path) -> None:
    assert keep_index("a shard", lambda: make_slowly(log)) == LISTING


def test_processes_that_want_one_index_make_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    log = tmp_path / "log"
    processes = [multiprocessing.Process(target=keep, args=(log,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    keep(log)
    assert log.read_text() == "made\n"
    assert is_kept("a shard")
    assert not is_kept("another")


def test_what_might_change_unseen_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        assert keep_index("", lambda: make_slowly(tmp_path / "log")) == LISTING
    assert (tmp_path / "log").read_text() == "made\nmade\n"
    assert not is_kept("")
