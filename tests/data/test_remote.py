import io
import json
import multiprocessing
import operator
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnctl.data import Selection, TrainingPairs, file_systems, open_dataset, take_part
from cnctl.data.shards import ShardDataset
from cnctl.errors import CnctlError, MissingError
from cnctl.images import read_hint, write_hint, write_image
from cnctl.settings import TrainSettings
from cnctl.training.data_loader import read_batches

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*fork:DeprecationWarning"  # the server's thread, and fsspec's
)

COUNT = 12
read_colours = partial(read_hint, channels=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards of four examples, each of another size, the last without hint and prompt."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for shard in range(3):
        with tarfile.open(folder / f"{shard:02}.tar", "w") as archive:
            for number in range(4):
                size = 20 + shard, 24 + number
                image, hint = tmp_path / "a.png", tmp_path / "b.png"
                write_image(image, rng.integers(0, 256, (*size, 3), np.uint8), overwrite=True)
                write_hint(hint, rng.integers(0, 256, (*size, 3), np.uint8), overwrite=True)
                parts = {"png": image.read_bytes()}
                if number < 3:
                    prompt = f"number {number}".encode()
                    parts |= {"hint.png": hint.read_bytes(), "txt": prompt}
                for kind, data in parts.items():
                    info = tarfile.TarInfo(f"x/{number}.{kind}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return folder


@pytest.fixture
def server(serve: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(file_systems, "PAUSES", (0, 0, 0))
    with serve(folder) as server:
        yield server


def open_streamed(spec: str) -> ShardDataset:
    dataset = open_dataset(spec, read_hint=read_colours)
    assert isinstance(dataset, ShardDataset)
    return dataset


def test_streamed_shards_are_the_local_ones(server: Any, folder: Path) -> None:
    local = open_dataset(folder / "{00..02}.tar", read_hint=read_colours)
    places = [f"{server.url}/{{00..02}}.tar", f"{server.url}/*.tar", f"file://{folder}/*.tar"]
    for spec in places:
        there = open_streamed(spec)
        assert len(there) == len(local) == COUNT
        assert there.ready_hints == local.ready_hints == 9
        for index in range(COUNT):
            here, read = local[index], there[index]
            np.testing.assert_array_equal(read.image, here.image)
            assert read.hint is None if here.hint is None else (read.hint == here.hint).all()
            assert read.prompt == here.prompt
            assert there.image_size(index) == local.image_size(index) == here.image.shape[:2]
            place = spec.rpartition("/")[0]
            assert there.name(index) == f"{place}/0{index // 4}.tar/x/{index % 4}"
        chosen, part = (take_part(data, largest=6, sample=3) for data in (there, local))
        assert [chosen[i].prompt for i in range(3)] == [part[i].prompt for i in range(3)]


@pytest.mark.slow
def test_shards_on_the_hub_are_the_local_ones(
    serve: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # huggingface_hub is the client; the server answers its requests as the hub does.
    place = tmp_path / "hub" / "datasets" / "me" / "set" / "resolve" / "main"
    shutil.copytree(folder, place)
    files = [
        {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
        for path in sorted(place.iterdir())
    ]
    about = {"id": "me/set", "sha": "0" * 40, "siblings": []}
    api = "/api/datasets/me/set"
    fixed = {api: json.dumps(about).encode(), f"{api}/tree/main": json.dumps(files).encode()}
    with serve(tmp_path / "hub", fixed=fixed) as server:
        settings = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-m", "cnctl", "annotate", "--cond", "canny", "--dataset"]
        command += ["--prompt", "x", "--keep-all", "--held-out", "0", "-q"]
        for given, out in (("hf://datasets/me/set/*.tar", "hub"), (f"{folder}/*.tar", "local")):
            run = [*command, given, "-o", str(tmp_path / "out" / out)]
            subprocess.run(run, env={**os.environ, **settings}, check=True)
        assert server.asked
    hub, local = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*.png")}
        for out in (tmp_path / "out" / "hub", tmp_path / "out" / "local")
    )
    assert len(hub) == 2 * COUNT
    assert hub == local


def test_an_example_is_one_request_and_an_index_is_read_once(server: Any) -> None:
    notes: list[str] = []
    spec = f"{server.url}/{{00..02}}.tar"
    dataset = open_dataset(spec, read_hint=read_colours, note=notes.append)
    assert len(notes) == 1
    assert "3 shards" in notes[0]
    assert Counter(asked.name for asked in server.asked) == {f"0{i}.tar": 2 for i in range(3)}
    server.asked.clear()
    for index in range(COUNT):
        dataset.image_size(index)
    assert not server.asked
    for index in range(COUNT):
        dataset[index]
    assert len(set(server.asked)) == len(server.asked) == COUNT
    server.asked.clear()
    again = open_dataset(spec, read_hint=read_colours, note=notes.append)
    assert not server.asked
    assert len(notes) == 1
    assert again.fingerprint == dataset.fingerprint


def test_an_index_that_is_damaged_or_of_another_file_is_made_anew(
    server: Any, folder: Path, tmp_path: Path
) -> None:
    spec = f"{server.url}/00.tar"
    before = open_streamed(spec)
    (kept,) = (tmp_path / "cache").rglob("*.json")
    kept.write_bytes(kept.read_bytes()[:-9] + b"000,null]")
    assert open_streamed(spec).rows == before.rows
    (folder / "00.tar").write_bytes((folder / "01.tar").read_bytes())
    after = open_streamed(spec)
    assert after.image_size(0) == after[0].image.shape[:2] == (21, 24)
    assert after.fingerprint != before.fingerprint


def test_a_shard_that_broke_off_is_named_from_the_cache_too(server: Any, folder: Path) -> None:
    path = folder / "00.tar"
    with tarfile.open(path) as archive:
        end = archive.getmember("x/2.hint.png").offset
    path.write_bytes(path.read_bytes()[:end])
    for _ in range(2):
        (problem,) = open_streamed(f"{server.url}/00.tar").problems
        assert problem.fatal
        assert problem.what == (
            "it is incomplete: it has no end mark; 1 of its 3 samples lacks a hint; "
            "1 of its 3 samples lacks a prompt"
        )


def test_what_fails_for_now_is_tried_again(server: Any) -> None:
    dataset = open_streamed(f"{server.url}/00.tar")
    server.failures[:] = [503, 429]
    assert dataset[1].prompt == "number 1"
    server.failures[:] = [503] * 9
    with pytest.raises(CnctlError, match=r"/00\.tar cannot be .* 4 tries: the server answers 503"):
        dataset[1]
    assert len(server.failures) == 5
    server.failures[:] = [500, 500]  # HEAD, and GET in its place
    assert len(open_streamed(f"{server.url}/00.tar")) == 4


def test_what_fails_for_good_is_told_once(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CnctlError, match=r"/03\.tar: no such shard"):
        open_streamed(f"{server.url}/{{00..03}}.tar")
    with pytest.raises(CnctlError, match=r"/x\*\.tar: no such shard"):
        open_streamed(f"{server.url}/x*.tar")
    with pytest.raises(CnctlError, match=r"a URL names shards, which end in \.tar"):
        open_streamed(server.url)
    with pytest.raises(CnctlError, match="cannot read nowhere://"):
        open_streamed("nowhere://a/b.tar")
    dataset = open_streamed(f"{server.url}/00.tar")
    server.failures[:] = [403, 503]
    with pytest.raises(CnctlError, match=r"/00\.tar cannot be read: access is denied \(403\)"):
        dataset[0]
    assert server.failures == [503]
    server.failures.clear()
    server.shutdown()
    server.hang_up()
    server.socket.close()
    with pytest.raises(CnctlError, match="4 tries: Cannot connect") as caught:
        dataset[0]
    assert "--resume" in caught.value.hint


def test_a_server_that_sends_no_parts_is_refused_before_it_sends_all(
    serve: Any, folder: Path
) -> None:
    (folder / "large.tar").write_bytes((folder / "00.tar").read_bytes() + bytes(64 << 20))
    for name in ("00", "large"):
        with serve(folder, ranges=False) as server:
            with pytest.raises(CnctlError, match=f"{name}.tar sends whole files only"):
                open_streamed(f"{server.url}/{name}.tar")
            assert server.sent < 8 << 20


def test_a_shard_that_is_cut_is_told(server: Any, folder: Path) -> None:
    dataset = open_streamed(f"{server.url}/00.tar")
    (folder / "00.tar").write_bytes((folder / "00.tar").read_bytes()[:1800])
    for index in (0, 3):  # one that is cut itself, one that lay behind
        with pytest.raises(CnctlError, match=r"00\.tar is shorter than it was"):
            dataset[index]
    with pytest.raises(CnctlError, match=r"00\.tar: it is incomplete: its last member is cut off"):
        open_streamed(f"{server.url}/00.tar")


def test_credentials_are_not_told(server: Any) -> None:
    secret = re.compile("us3r|tok3n|s1gned")
    spec = f"{server.url}/{{00..01}}.tar?sig=s1gned".replace("://", "://us3r:tok3n@")
    dataset = open_streamed(spec)
    assert dataset.name(0) == f"{server.url.replace('://', '://***@')}/00.tar?***/x/0"
    assert dataset.key(0) == "00.tar/x/0"
    assert not secret.search(repr(dataset))
    server.failures[:] = [500] * 4
    with pytest.raises(CnctlError) as caught:
        dataset[0]
    assert not secret.search(f"{caught.value} {caught.value.hint}")
    with pytest.raises(CnctlError) as caught:
        open_streamed(spec.replace("01", "09"))
    assert not secret.search(f"{caught.value} {caught.value.hint}")
    assert open_streamed(spec.replace("s1gned", "other")).fingerprint == dataset.fingerprint


def test_a_missing_package_is_named() -> None:
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(MissingError) as caught:
            open_streamed("s3://bucket/00.tar")
        assert "s3fs" in caught.value.hint


def test_a_spawned_process_reads_too(server: Any) -> None:
    dataset = open_streamed(f"{server.url}/00.tar")
    assert len(pickle.loads(pickle.dumps(dataset))) == 4
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(operator.getitem, (dataset, 2)).prompt == "number 2"


def no_hint(image: np.ndarray, rng: np.random.Generator | None) -> None:
    return None


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_processes_ask_for_their_own_examples_and_others_go_on_alike(
    server: Any, workers: int
) -> None:
    """Two processes, then one: each example of an epoch is asked for once, and as it would be."""
    dataset = open_streamed(f"{server.url}/*.tar")
    pairs = TrainingPairs(dataset=dataset, sizes=[(16, 16)], hint_channels=3, detect=no_hint)
    examples = Selection(pairs, tuple(range(COUNT)))
    steps = COUNT // 4
    two = TrainSettings(batch_size=2, num_processes=2, workers=workers, seed=7)
    one = TrainSettings(batch_size=2, gradient_accumulation=2, workers=workers, seed=7)

    def read(numbers: range, settings: TrainSettings, rank: int = 0) -> list[Any]:
        return list(read_batches(examples, numbers, settings, rank=rank))

    def asked(do: Callable[[], list[Any]]) -> tuple[list[Any], set[Any]]:
        server.asked.clear()
        batches = do()
        assert len(set(server.asked)) == len(server.asked)
        return batches, set(server.asked)

    unbroken, everything = asked(lambda: read(range(steps), one))
    assert len(everything) == COUNT
    first, of_first = asked(lambda: read(range(steps), two, 0))
    second, of_second = asked(lambda: read(range(steps), two, 1))
    assert not of_first & of_second
    assert of_first | of_second == everything

    begun = [batch for pair in zip(first[:2], second[:2], strict=True) for batch in pair]
    rest, of_rest = asked(lambda: read(range(2, steps), one))
    assert len(of_rest) == 4
    for batch, expected in zip(begun + rest, unbroken, strict=True):
        assert batch.keys == expected.keys
        assert batch.prompts == expected.prompts
        np.testing.assert_array_equal(batch.images, expected.images)
