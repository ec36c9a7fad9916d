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
        assert example.prompt == PROMPTS[row]
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
    assert caught.value.hint == "it has conditioning_image, text"
    saved().save_to_disk(tmp_path / "cut")
    part = next((tmp_path / "cut").glob("*.arrow"))
    part.write_bytes(part.read_bytes()[:300])
    with pytest.raises(CnctlError, match="cannot be read"):
        open_dataset(tmp_path / "cut")
    datasets.DatasetDict(test=saved()).save_to_disk(tmp_path / "test")
    with pytest.raises(CnctlError, match="has no split 'train'"):
        open_dataset(tmp_path / "test")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingError, match="pyarrow, which reads them") as missing:
        open_dataset(tmp_path / "test" / "test")
    assert "cnctl[arrow]" in missing.value.hint
