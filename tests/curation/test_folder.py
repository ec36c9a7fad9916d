"""Data sets as folders: made as those in shards are, and read by their index."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnctl.data import open_dataset
from cnctl.errors import CnctlError, OutputError
from tests.curation.data_sets import examples, make, paint, records
from tests.curation.test_run import digest


def index(out: str = "out", split: str = "train") -> list[dict[str, Any]]:
    path = Path(out, split, "metadata.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_holds_what_shards_hold(photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "y.png")  # left out when all folders are there
    make(photos, shards=3, prompt="x")
    make(photos, "set", shards=None, prompt="x")
    rows, tars = index("set"), list(examples("out").values())
    assert len(rows) == len(tars) == 7
    for row, files in zip(rows, tars, strict=True):
        made, kind = json.loads(files["json"]), Path(row["image_file_name"]).suffix[1:]
        assert Path("set/train", row["image_file_name"]).read_bytes() == files[kind]
        assert Path("set/train", row["hint_file_name"]).read_bytes() == files["hint.png"]
        assert row["prompt"] == files["txt"].decode()
        assert row["options"] == made["hints"]["canny"]["options"]
        assert (row["source"], row["stored"]) == (made["source"], "copied")
    named = {path.name for path in Path("set/train/000000").iterdir()}
    assert len(named) == 14, "nothing is left of the duplicate"
    dataset = open_dataset("set")
    assert (len(dataset), dataset.ready_hints, list(dataset.problems)) == (7, 7, [])


@pytest.mark.slow
@pytest.mark.usefixtures("plugin")
def test_the_bytes_of_folders_do_not_depend_on_workers_and_interruptions(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnctl.commands.annotate.curate.PER_FOLDER", 2)
    shutil.copy(photos / "a.png", photos / "y.png")
    asked: dict[str, Any] = {"cond": "brittle", "shards": None, "held_out": 0.3, "prompt": "x"}
    make(photos, **asked)
    make(photos, "other", workers=2, **asked)
    assert digest("other") == digest("out")
    assert make(photos, **asked).made.was_done
    before = digest("out")
    lost = next(Path("out/train").glob("0*/*.hint.json"))
    lost.unlink()
    assert not make(photos, **asked).made.was_done
    assert digest("out") == before


def test_images_are_linked_where_they_need_not_be_written(photos: Path) -> None:
    from PIL import Image

    Image.open(photos / "a.png").save(photos / "a.bmp")
    (photos / "a.png").unlink()
    shutil.copy(photos / "b.jpg", photos / "y.jpg")
    make(photos, shards=None, images="link", prompt="x")
    stored = {
        row["source"]: (row["stored"], Path("out/train", row["image_file_name"])) for row in index()
    }
    how, path = stored.pop("a.bmp")
    assert (how, path.is_symlink()) == ("re-encoded", False)
    assert len(stored) == 6
    for name, (how, path) in stored.items():
        assert how == "linked"
        assert path.readlink() == (photos / name).absolute()
    assert make(photos, shards=None, images="link", prompt="x").made.was_done


def test_subsets_are_indexes(photos: Path) -> None:
    make(photos, shards=None, subsets="2,5")
    part = open_dataset("out/subsets/5.jsonl")
    assert (len(part), part.ready_hints, list(part.problems)) == (5, 5, [])
    whole = open_dataset("out")
    prompts = [whole.prompt(n) for n in range(7)]
    for n in range(5):
        other = whole[prompts.index(part.prompt(n))]
        assert np.array_equal(part[n].image, other.image)
        assert np.array_equal(part[n].hint, other.hint)


def test_hints_are_read_from_maps(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnctl.plugin import Condition, GroundTruth
    from cnctl.registry import get_condition

    def refuse(device: str) -> Any:
        raise AssertionError("nothing is detected")

    stated = Condition(
        name="stated",
        summary="Ten times as bright",
        load_detector=refuse,
        ground_truth=GroundTruth(
            name="{stem}_map.npy",
            read=lambda values, sizes: np.repeat((values * 10)[..., None], 3, 2).astype(np.uint8),
        ),
    )
    known = {"stated": stated, "canny": get_condition("canny")}
    for module in ("cnctl.commands.annotate.runs", "cnctl.curation.work"):
        monkeypatch.setattr(f"{module}.get_condition", known.__getitem__)
    for stem in ("a", "sub/d"):
        path = Path("maps", f"{stem}_map.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.arange(72)[:, None] // 9 + np.zeros(96, int))
    make(photos, cond="stated", shards=None, ground_truth="maps", resolution=72)
    assert [row["source"] for row in index()] == ["a.png", "sub/d.png"]
    expected = np.repeat(np.arange(8) * 10, 9)[:, None] + np.zeros(96, int)
    hint = open_dataset("out")[1].hint
    assert hint is not None
    assert np.array_equal(hint[..., 0], expected)
    errors = {record["name"]: (record["reason"], record["error"]) for record in records("out")}
    assert errors["b.jpg"] == ("cannot be read", "maps/b_map.npy: no such file")
    with pytest.raises(CnctlError, match="canny does not read ground truth"):
        make(photos, "other", ground_truth="maps")


@pytest.mark.parametrize("asked", [{}, {"paths": "nowhere.txt"}])
def test_an_input_that_does_not_exist_leaves_no_output(photos: Path, asked: dict) -> None:
    with pytest.raises(CnctlError, match="nowhere"):
        make([photos] if asked else [photos, "nowhere/*.png"], shards=None, **asked)
    assert not Path("out").exists()


def test_a_folder_of_other_files_is_left_alone(photos: Path) -> None:
    paint(Path("out/images/a.png"))
    with pytest.raises(OutputError, match="holds other files"):
        make(photos, shards=None)
    assert [path.name for path in Path("out").rglob("*") if path.is_file()] == ["a.png"]
