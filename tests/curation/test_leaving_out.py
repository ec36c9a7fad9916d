"""Shards without duplicates, however they are written."""

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from cnctl.curation import leaving_out, run, work
from cnctl.curation.work import Workplace
from cnctl.errors import DeviceError
from tests.curation.data_sets import digest, examples, make, reasons, records


def test_duplicates_are_found_across_shards_and_workers(photos: Path) -> None:
    for number, name in enumerate(["bb.jpg", "sub/deep/a.png", "zz.png"]):
        source = ["b.jpg", "a.png", "a.png"][number]
        shutil.copy(photos / source, photos / name)
    make(photos, prompt="x", shards=2)
    left_out = {name: r for name, r in reasons("out").items() if r}
    assert left_out == dict.fromkeys(["bb.jpg", "sub/deep/a.png", "zz.png"], "duplicate")
    assert len(examples("out")) == 7
    errors = {r["name"]: r["error"] for r in records("out") if r["reason"]}
    assert errors["zz.png"] == "it is like row 0"
    make(photos, prompt="x", shards=2, out="parts", shard_range="3-4")
    make(photos, prompt="x", shards=2, out="parts", shard_range="0-2")
    assert digest("parts") == digest("out")
    make(photos, prompt="x", shards=2, out="all", keep_all=True)
    assert len(examples("all")) == 10
    not_met = {r["name"] for r in records("all") if r["not_met"]}
    assert not_met == left_out.keys()


@pytest.mark.parametrize("keep_all", [False, True])
def test_finishing_that_was_interrupted_is_repeated(
    photos: Path, monkeypatch: pytest.MonkeyPatch, keep_all: bool
) -> None:
    for number in range(3):
        shutil.copy(photos / "a.png", photos / f"y{number}.png")
    asked: dict[str, Any] = {"prompt": "x", "shards": 2, "keep_all": keep_all}
    make(photos, **asked)
    done = digest("out")
    writes = "rewrite_records" if keep_all else "write_shard"
    write = getattr(leaving_out, writes)
    for stop_at in (1, 2):
        calls = itertools.count(1)

        def interrupted(*args, write=write, stop=stop_at, calls=calls, **named):
            if next(calls) == stop:
                raise KeyboardInterrupt
            return write(*args, **named)

        with monkeypatch.context() as patch:
            patch.setattr(leaving_out, writes, interrupted)
            with pytest.raises(KeyboardInterrupt):
                make(photos, **asked, out=f"again{stop_at}")
        with monkeypatch.context() as patch:
            patch.setattr(work, "make_shard", None)  # no shard is made again
            make(photos, **asked, out=f"again{stop_at}")
        assert digest(f"again{stop_at}") == done
    with Workplace(Path("out"), None) as place:
        assert not place.manifest.damaged()


def test_examples_that_are_all_kept_are_written_once(photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "z.png")
    make(photos, prompt="x", shards=2, keep_all=True, rules=["duplicates=off"])
    before = {path.name: path.read_bytes() for path in Path("out/train").iterdir()}
    make(photos, prompt="x", shards=2, keep_all=True, out="marked")
    assert {path.name: path.read_bytes() for path in Path("marked/train").iterdir()} == before
    assert any(record["not_met"] == ["duplicate"] for record in records("marked"))


def test_several_processes_write_the_bytes_of_one_and_one_that_is_killed_loses_nothing(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        shutil.copy(photos / "a.png", photos / f"y{number}.png")
    asked: dict[str, Any] = {"prompt": "x", "shards": 2}
    make(photos, **asked)
    monkeypatch.setattr(leaving_out, "MANY", 1)
    monkeypatch.setattr(run, "cores", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr(leaving_out, "follow_parent", os.abort)
        with pytest.raises(DeviceError, match="was killed"):
            make(photos, **asked, workers=2, out="together")
    make(photos, **asked, workers=2, out="together")
    assert digest("together") == digest("out")
