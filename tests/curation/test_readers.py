"""What is made is read by `cnctl train`, by Hugging Face `datasets` and by `webdataset`."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnctl.commands.evaluate.cases import open_examples
from cnctl.commands.train.splits import Splits, open_training_data, split_data
from cnctl.data import open_dataset
from cnctl.data.annotated import note_other_condition
from cnctl.images import read_image
from cnctl.registry import get_condition
from cnctl.settings import TrainSettings
from tests.curation.data_sets import decoded, examples, make, paint, records


def test_train_reads_it_and_misses_nothing(photos: Path) -> None:
    make(photos)
    dataset = open_dataset("out/train/*.tar")
    assert (len(dataset), dataset.ready_hints, dataset.ready_prompts) == (7, 7, 7)
    assert list(dataset.problems) == []
    for index, files in enumerate(examples("out").values()):
        example = dataset[index]
        assert example.prompt == files["txt"].decode()
        assert example.hint is not None
        assert np.array_equal(example.hint, decoded(files["hint.png"]))


@pytest.mark.parametrize("shards", [None, 4])
def test_train_reads_subsets_and_holds_out_the_validation_split(
    photos: Path, shards: int | None
) -> None:
    for number in range(20):
        paint(photos / f"more-{number}.png", 100 + number)
    rules = ["contrast=off", "edge-density=off"]
    make(photos, shards=shards, held_out=0.3, prompt="x", rules=rules, subsets="5,10")
    done = [record for record in records("out") if not record["reason"]]
    train, kept = ([r["name"] for r in done if r["split"] == n] for n in ("train", "validation"))
    assert len(train) + len(kept) == 27
    named = {r["name"]: photos / r["name"] for r in records("out")}
    listed = Path("out/subsets/5.jsonl").read_text().splitlines()
    some = [json.loads(line).get("source") or json.loads(line)["name"] for line in listed]
    for data, names in (("out", train), ("out/subsets/5.jsonl", some)):
        found = split(data, held_out=4)
        images = [found.dataset[index].image for index in found.train]
        assert len(images) == len(names)
        for image, name in zip(images, names, strict=True):
            assert np.array_equal(image, read_image(named[name]))
        assert found.dataset.ready_hints == len(found.dataset) == len(names) + 4
        assert found.source == f"{len(kept)} in out/validation"
        held = [found.dataset[index].image for index in found.held]
        whole = [read_image(named[name]) for name in kept]
        assert all(any(np.array_equal(one, other) for other in whole) for one in held)
    nothing = split("out", held_out=0)
    assert (len(nothing.train), len(nothing.held)) == (len(train), 0)


def split(data: str, *, held_out: int) -> Splits:
    settings = TrainSettings(held_out=held_out)
    return split_data(data, open_dataset(data), get_condition("canny"), settings, columns=None)


@pytest.mark.usefixtures("plugin")
def test_train_reads_one_of_several_conditions(photos: Path) -> None:
    make(photos, cond=["canny", "brittle"])
    dataset = open_dataset("out/train/*.tar", columns="hint=brittle")
    files = examples("out")["000000000"]
    hint = dataset[0].hint
    assert hint is not None
    assert np.array_equal(hint, decoded(files["brittle.png"]))
    assert not any(problem.fatal for problem in dataset.problems)
    told: list[str] = []
    for name, columns in (
        ("canny", "hint=brittle"),
        ("canny", "hint=canny.png"),
        ("tile", "hint="),
    ):
        note_other_condition("out/train/*.tar", name, columns=columns, note=told.append)
    assert told == ["out/train/*.tar holds hints of brittle, which are read as those of canny"]


def test_train_says_where_a_data_set_was_made_for_another_condition(photos: Path) -> None:
    make(photos, shards=None, prompt="x", subsets="2")
    for data in ("out", "out/train", "out/subsets/2.jsonl"):
        told: list[str] = []
        for name in ("canny", "tile"):
            open_training_data(data, get_condition(name), columns=None, note=told.append)
        assert told[-1] == f"{data} holds hints of canny, which are read as those of tile"
        assert sum("holds hints of" in line for line in told) == 1
    known = get_condition("tile")
    open_examples("out", known, columns=None, ready=False, side=128, note=told.append)
    assert told[-1] == "out holds hints of canny, which are read as those of tile"


@pytest.mark.usefixtures("plugin")
@pytest.mark.filterwarnings("ignore")
def test_datasets_reads_it(photos: Path, tmp_path: Path) -> None:
    import datasets

    for number in range(20):
        paint(photos / f"more-{number}.png", 100 + number)
    make(photos, cond="brittle", held_out=0.3, prompt="x")
    cache = str(tmp_path / "cache")
    found = datasets.load_dataset("webdataset", data_dir="out", cache_dir=cache)
    for split in ("train", "validation"):
        ours = examples("out", split)
        assert [row["__key__"] for row in found[split]] == list(ours)
        for row, files in zip(found[split], ours.values(), strict=True):
            assert np.array_equal(
                np.asarray(row["hint.png"].convert("RGB")), decoded(files["hint.png"])
            )
            assert row["txt"] == files["txt"].decode()
            assert row["json"]["source_sha256"] == json.loads(files["json"])["source_sha256"]


@pytest.mark.filterwarnings("ignore")
def test_datasets_reads_shards_of_several_formats_as_the_page_says(
    photos: Path, tmp_path: Path
) -> None:
    page = Path(__file__).parents[2] / "docs" / "annotate-at-scale.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    make(photos, "shards")
    import datasets

    code = code.replace('"webdataset",', f'"webdataset", cache_dir="{tmp_path}/cache",')
    exec(code, found := {})
    assert isinstance(found["pairs"], datasets.DatasetDict)
    rows, ours = found["pairs"]["train"], examples("shards")
    assert {kind for files in ours.values() for kind in files} > {"jpg", "png", "webp"}
    for row, files in zip(rows, ours.values(), strict=True):
        for kind in ("jpg", "png", "webp", "hint.png"):
            assert (row[kind] is not None) == (kind in files)
            if kind in files:
                picture = Image.open(io.BytesIO(files[kind]))
                assert np.array_equal(np.asarray(row[kind]), np.asarray(picture))


@pytest.mark.filterwarnings("ignore")
def test_webdataset_reads_it(photos: Path) -> None:
    import webdataset

    make(photos)
    urls = [f"file:{path}" for path in sorted(Path("out/train").glob("*.tar"))]
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))
    ours = examples("out")
    assert [sample["__key__"] for sample in found] == list(ours)
    for sample, files in zip(found, ours.values(), strict=True):
        assert sample["txt"] == files["txt"].decode()
        assert np.array_equal(np.asarray(sample["hint.png"]), decoded(files["hint.png"]))
        assert sample["json"] == json.loads(files["json"])
        kind = next(kind for kind in ("jpg", "png", "webp") if kind in files)
        picture = Image.open(io.BytesIO(files[kind])).convert("RGB")
        assert np.array_equal(np.asarray(sample[kind]), np.asarray(picture))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("conditions", "columns", "hint"), [(1, None, "hint"), (2, "hint=canny_file_name", "canny")]
)
def test_datasets_reads_a_folder(
    photos: Path, tmp_path: Path, conditions: int, columns: str | None, hint: str
) -> None:
    import datasets

    for number in range(20):
        paint(photos / f"more-{number}.png", 100 + number)
    make(photos, "set", ["brittle", "canny"][:conditions], shards=None, held_out=0.3, prompt="x")
    found = datasets.load_dataset("imagefolder", data_dir="set", cache_dir=str(tmp_path / "cache"))
    ours = open_dataset("set", columns=columns)
    assert len(found["train"]) == len(ours) == 27 - len(found["validation"])
    assert 2 < len(found["validation"]) < 15
    for row, example in zip(found["train"], (ours[n] for n in range(len(ours))), strict=True):
        assert example.hint is not None
        assert np.array_equal(np.asarray(row["image"].convert("RGB")), example.image)
        assert np.array_equal(np.asarray(row[hint].convert("RGB")), example.hint)
        assert row["prompt"] == example.prompt
