"""Folders as Hugging Face `datasets` itself writes them."""

import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from cnctl.data import open_dataset, take_part
from cnctl.errors import CnctlError, MissingError

COUNT = 5


def pictures(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(8, 24, (COUNT, 2))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


IMAGES, HINTS = pictures(1), pictures(2)
PROMPTS = ["a", "ü", "", "日本", "e"]


def saved(**columns: Any) -> "datasets.Dataset":
    """As the hub's fusing/fill50k has its columns."""
    images = [[Image.fromarray(picture) for picture in part] for part in (IMAGES, HINTS)]
    content = {"image": images[0], "conditioning_image": images[1], "text": PROMPTS} | columns
    return datasets.Dataset.from_dict({k: v for k, v in content.items() if v is not None})


def save(kind: str, folder: Path) -> None:
    whole = saved()
    if kind == "arrow":
        whole.save_to_disk(folder, num_shards=2)
    elif kind == "selected":
        saved().select([4, 1, 0]).select([2, 1, 0]).save_to_disk(folder)
    elif kind == "splits":
        datasets.DatasetDict(train=whole, test=whole.select([0])).save_to_disk(folder)
    else:
        (folder / "data").mkdir(parents=True)
        whole.to_parquet(folder / "data/train-00000-of-00001.parquet", batch_size=2)
        whole.select([0]).to_parquet(folder / "data/test-00000-of-00001.parquet")


@pytest.mark.parametrize(
    ("kind", "rows"),
    [("arrow", range(COUNT)), ("splits", range(COUNT)), ("parquet", range(COUNT)),
     ("selected", (0, 1, 4))],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_datasets_has_saved_is_read(kind: str, rows: Any, tmp_path: Path) -> None:
    save(kind, tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    assert len(dataset) == dataset.ready_hints == len(rows)
    for index, row in enumerate(rows):
        example = dataset[index]
        np.testing.assert_array_equal(example.image, IMAGES[row])
        np.testing.assert_array_equal(example.hint, HINTS[row])
        assert example.prompt == dataset.prompt(index) == PROMPTS[row]
        assert dataset.image_size(index) == IMAGES[row].shape[:2]
    part = take_part(dataset, sample=2)
    assert len(part) == 2
    assert part.fingerprint != dataset.fingerprint
    assert part.name(1) == f"{tmp_path / 'set'}, row {part.key(1)}"  # type: ignore[attr-defined]


def test_images_without_hints_and_prompts(tmp_path: Path) -> None:
    saved(conditioning_image=None, text=None).save_to_disk(tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    assert (dataset.ready_hints, dataset[0].hint, dataset[0].prompt) == (0, None, "")


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(text=[["two", "prompts"]] * COUNT).save_to_disk(tmp_path / "lists")
    with pytest.raises(CnctlError, match="row 0: 'text' is not text"):
        open_dataset(tmp_path / "lists")[0]
    saved(image=None).save_to_disk(tmp_path / "blind")
    with pytest.raises(CnctlError, match="has no column 'image'") as caught:
        open_dataset(tmp_path / "blind")
    assert caught.value.hint == "it has conditioning_image, text; --columns image=NAME names it"
    saved().save_to_disk(tmp_path / "cut")
    part = next((tmp_path / "cut").glob("*.arrow"))
    part.write_bytes(part.read_bytes()[:300])
    with pytest.raises(CnctlError, match=rf"{part.name} cannot be read"):
        open_dataset(tmp_path / "cut")
    datasets.DatasetDict(test=saved()).save_to_disk(tmp_path / "test")
    with pytest.raises(CnctlError, match="has no split 'train'"):
        open_dataset(tmp_path / "test")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingError, match="pyarrow, which reads them") as missing:
        open_dataset(tmp_path / "test" / "test")
    assert "cnctl[arrow]" in missing.value.hint


def parts(folder: Path, *wholes: "datasets.Dataset") -> Path:
    folder.mkdir()
    for number, whole in enumerate(wholes):
        whole.to_parquet(folder / f"train-{number:05}-of-{len(wholes):05}.parquet")
    return folder


@pytest.mark.parametrize("reverse", [False, True])
def test_parts_with_other_columns_are_refused_in_one_line(tmp_path: Path, reverse: bool) -> None:
    wholes = [saved(), saved(conditioning_image=None)]
    folder = parts(tmp_path / "set", *(wholes[::-1] if reverse else wholes))
    part = folder / f"train-0000{int(not reverse)}-of-00002.parquet"
    with pytest.raises(CnctlError, match=f"{part} has no column 'conditioning_image', which"):
        open_dataset(folder)


@pytest.mark.parametrize("form", ["arrow", "parquet"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_columns_of_other_names(tmp_path: Path, form: str) -> None:
    whole = saved(conditioning_image=None).add_column("id", [*range(COUNT)])
    hints = saved().rename_column("conditioning_image", "control").select_columns("control")
    whole = datasets.concatenate_datasets([whole, hints], axis=1)
    if form == "arrow":
        whole.save_to_disk(tmp_path / "set")
    else:
        parts(tmp_path / "set", whole)
    first, second = open_dataset(tmp_path / "set").problems
    assert first.fatal
    assert first.what == (
        "5 of 5 examples have no hint, and 'control', which holds images, is not read"
    )
    assert second.what == "columns that are not read: id, control"
    mapped = open_dataset(tmp_path / "set", columns="hint=control")
    np.testing.assert_array_equal(mapped[1].hint, HINTS[1])
    assert [problem.what for problem in mapped.problems] == ["columns that are not read: id"]


@pytest.mark.parametrize("form", ["arrow", "parquet"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_rows_without_hint_or_prompt_are_counted(tmp_path: Path, form: str) -> None:
    hints = [Image.fromarray(hint) if n % 2 else None for n, hint in enumerate(HINTS)]
    whole = saved(conditioning_image=hints, text=["a", None, " ", "b", "c"])
    if form == "arrow":
        whole.save_to_disk(tmp_path / "set")
    else:
        parts(tmp_path / "set", whole.select([0, 1]), whole.select([2, 3, 4]))
    dataset = open_dataset(tmp_path / "set")
    assert (dataset.ready_hints, dataset.ready_prompts) == (2, 3)
    part = take_part(dataset, sample=3)
    read = [part[index] for index in range(3)]
    assert part.ready_hints == sum(example.hint is not None for example in read)
    assert part.ready_prompts == sum(bool(example.prompt.strip()) for example in read)


def test_one_parquet_file_and_splits_that_are_not_read(tmp_path: Path) -> None:
    folder = parts(tmp_path / "set", saved())
    (path,) = folder.iterdir()
    assert len(open_dataset(path)) == COUNT
    saved().to_parquet(folder / "test-00000-of-00001.parquet")
    notes: list[str] = []
    assert len(open_dataset(folder, note=notes.append)) == COUNT
    assert notes == ["only the split 'train' is read, and not test-00000-of-00001.parquet"]
