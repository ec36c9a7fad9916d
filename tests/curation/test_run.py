"""Runs that are repeated, stopped, killed, shared, and short of space."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnctl.commands.shared.events import Note
from cnctl.curation.layout import CLAIMS
from cnctl.errors import CnctlError, OutputError
from cnctl.system.locks import Claims
from tests.curation.data_sets import HANGS, KILLS, digest, examples, make, paint, reasons, records

COMMAND = [sys.executable, "-m", "cnctl", "annotate", "--dataset", "--resolution", "64"]


def _many(folder: Path, count: int) -> Path:
    for number in range(count):
        paint(folder / f"{number:03d}.png", number)
    return folder


def test_workers_make_the_same_bytes_as_one_process(photos: Path) -> None:
    make(photos)
    make(photos, out="other", workers=2, shards=3)
    assert digest("out") == digest("other")


def test_repeating_a_finished_run_does_nothing_and_says_so(photos: Path) -> None:
    assert not make(photos).made.was_done
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.is_file()}
    again = make(photos)
    assert again.made.was_done
    assert again.made.tally.rows == 7
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"seed": 1}, "seed was 0, and is 1 now"),
        ({"resolution": 32}, "resolution"),
        ({"rules": ["sharpness=5.."]}, "bounds.sharpness.least was not given, and is 5.0 now"),
        ({"shards": 2}, "per_shard was 3, and is 2 now"),
        (
            {"options": ["low_threshold=9"]},
            "canny.options.low_threshold was not given, and is 9 now",
        ),
        ({"prompt": "a"}, 'prompt was not given, and is "a" now'),
    ],
)
def test_a_changed_option_is_told_and_nothing_is_done(photos: Path, asked, what: str) -> None:
    make(photos)
    before = digest("out")
    with pytest.raises(OutputError, match=what):
        make(photos, **asked)
    assert digest("out") == before


def test_changed_inputs_are_told(photos: Path) -> None:
    make(photos)
    before = (photos / "b.jpg").read_bytes()
    paint(photos / "b.jpg", 99, size=(80, 80))
    with pytest.raises(OutputError, match=r"row 1 was b.jpg \(\d+ bytes\), and is b.jpg"):
        make(photos)
    (photos / "b.jpg").write_bytes(before)
    paint(photos / "zz.png", 98)
    with pytest.raises(OutputError, match=r"row 7 was absent, and is zz\.png"):
        make(photos)


def test_a_shard_that_is_lost_is_made_again(photos: Path) -> None:
    make(photos)
    before = digest("out")
    Path("out/train/000001.tar").unlink()
    Path("out/records/000002.jsonl").write_text("")
    events: list[object] = []
    assert not make(photos, on_event=events.append).made.was_done
    assert digest("out") == before
    (line,) = [event.text for event in events if isinstance(event, Note)]
    assert line.startswith("out/records/000002.jsonl and 1 more: missing or changed")


def test_a_list_of_inputs_that_is_lost_is_told(photos: Path) -> None:
    make(photos, prompt="x")
    Path("out/rows.jsonl").unlink()
    with pytest.raises(OutputError, match=r"out/rows\.jsonl is missing"):
        make(photos, prompt="x")


def test_a_part_of_a_line_in_the_manifest_is_removed(photos: Path) -> None:
    make(photos)
    before = digest("out")
    Path("out/report.json").unlink()
    manifest = Path("out/manifest.jsonl")
    first, rest = manifest.read_bytes().split(b"\n", 1)
    manifest.write_bytes(first + b"\n" + rest[: len(rest) // 2])
    make(photos)
    assert digest("out") == before


def test_other_files_in_the_output_are_not_touched(photos: Path) -> None:
    paint(Path("out/train/000000.png"))
    with pytest.raises(OutputError, match="holds other files"):
        make(photos)


def test_ranges_of_shards_make_one_data_set(photos: Path) -> None:
    make(photos)
    part = make(photos, out="parts", shard_range="1-2")
    assert (part.made.tally.rows, part.made.left) == (4, 1)
    assert not Path("parts/report.json").exists()
    whole = make(photos, out="parts", shard_range="0-0")
    assert whole.made.left == 0
    assert digest("parts") == digest("out")
    with pytest.raises(CnctlError, match="--shard-range 2-3 of 3 shards"):
        make(photos, out="parts", shard_range="2-3")


def test_a_shard_that_another_run_has_claimed_is_waited_for(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(photos)
    make(photos, out="shared", shard_range="0-0")
    monkeypatch.setattr("cnctl.curation.run.PAUSE", 0.05)
    script = (
        "import sys, time; from pathlib import Path; from cnctl.system.locks import Claims\n"
        f"claims = Claims(Path('shared/{CLAIMS}')); assert claims.claim(2)\n"
        "print('claimed', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"claimed\n"
        seen = []

        def kill_when_only_its_shard_is_left(progress) -> None:
            seen.append(progress.seen)
            if progress.seen == 6:
                os.kill(other.pid, signal.SIGKILL)

        make(photos, out="shared", on_event=kill_when_only_its_shard_is_left)
    assert seen[-1] == 7
    assert digest("shared") == digest("out")


def test_a_number_is_claimed_by_one_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from cnctl.system.locks import Claims\n"
        "claims = Claims(Path(sys.argv[1])); print([claims.claim(n) for n in range(3)])"
    )
    path = tmp_path / "claims"
    with Claims(path) as claims:
        assert claims.claim(1)
        ask = [sys.executable, "-c", script, str(path)]
        assert subprocess.check_output(ask, text=True) == "[True, False, True]\n"
        claims.release(1)
        assert subprocess.check_output(ask, text=True) == "[True, True, True]\n"


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("debug", ["", "1"])
def test_what_libraries_log_in_workers_is_shown_with_debug_alone(
    photos: Path, monkeypatch: pytest.MonkeyPatch, debug: str
) -> None:
    monkeypatch.setenv("SLOW", "0")
    monkeypatch.setenv("CNCTL_DEBUG", debug)
    words = ["--cond", "slow", str(photos), "-o", "out", "--workers", "1"]
    run = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert ("it chatters" in run.stderr) == bool(debug)


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("first", "timeout", "reason"),
    [
        (KILLS, 300, "killed workers"),
        pytest.param(HANGS, 4, "timed out", marks=pytest.mark.slow),  # three times 4 s
    ],
)
def test_the_image_that_ends_three_workers_is_left_out(
    photos: Path, first: tuple[int, int, int], timeout: float, reason: str
) -> None:
    paint(photos / "b.png", 51, first=first)
    make(photos, cond="brittle", workers=2, prompt="x", image_timeout=timeout)
    assert {name: why for name, why in reasons("out").items() if why} == {"b.png": reason}
    assert len(examples("out")) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_an_image_of_a_batch_that_kills_is_found(photos: Path) -> None:
    paint(photos / "b.png", 51, first=KILLS)
    make(photos, cond="together", workers=1, batch_size=3, shards=8, prompt="x")
    assert [name for name, reason in reasons("out").items() if reason] == ["b.png"]


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_killed_workers_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _many(Path("many"), 60)
    rules = ["duplicates=off"]
    monkeypatch.setenv("SLOW", "0")
    make("many", cond="slow", prompt="x", shards=6, rules=rules)
    monkeypatch.setenv("SLOW", "0.05")
    killed, seen = 0, 0

    def kill_a_worker(progress) -> None:
        nonlocal killed, seen
        if progress.seen <= seen:
            return
        seen = progress.seen
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        workers = [c for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]
        if killed < 5 and workers:
            os.kill(int(workers[killed % len(workers)]), signal.SIGKILL)
            killed += 1

    make(
        "many",
        "other",
        "slow",
        prompt="x",
        shards=6,
        rules=rules,
        workers=2,
        on_event=kill_a_worker,
    )
    assert killed == 5
    assert digest("other") == digest("out")


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_stopped_run_leaves_whole_shards_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    _many(Path("many"), 40)
    words = ["--cond", "slow", "many", "-o", "out", "--shards", "4", "-p", "x", "--workers", "2"]
    run = subprocess.Popen([*COMMAND, *words], start_new_session=True, stderr=subprocess.PIPE)
    while not Path("out/manifest.jsonl").exists():
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(number)
    assert run.wait(20) == code
    assert run.stderr
    error = run.stderr.read().decode()
    run.stderr.close()
    assert "Traceback" not in error
    monkeypatch.setenv("SLOW", "0")
    if number != signal.SIGKILL:
        assert not list(Path("out").rglob("*.tmp"))
    done = [
        json.loads(line)["shard"] for line in Path("out/manifest.jsonl").read_text().splitlines()
    ]
    assert 0 < len(done) < 10
    make("many", cond="slow", shards=4, prompt="x")
    make("many", "undisturbed", "slow", shards=4, prompt="x")
    assert digest("out") == digest("undisturbed")


@pytest.mark.slow
def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _many(Path("many"), 30)
    words = "--cond canny many -o out --shards 10 -p x --workers 2"
    limited = f"ulimit -f 60; exec {' '.join([*COMMAND, words])}"  # files of 60 KiB at most
    run = subprocess.run(["bash", "-c", limited], capture_output=True, text=True)
    assert run.returncode == 6, run.stderr
    assert "cannot be written: the disk is full" in run.stderr
    assert "Traceback" not in run.stderr
    make("many", shards=10, prompt="x")
    make("many", "undisturbed", shards=10, prompt="x")
    assert digest("out") == digest("undisturbed")
    assert len(records("out")) == 30
