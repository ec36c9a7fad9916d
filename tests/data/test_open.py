"""Which of the files in a folder are the data set, and what is said of the others."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnctl.data import open_dataset
from cnctl.data.open import is_dataset
from cnctl.errors import CnctlError
from cnctl.images import write_image

ENTRY = {"file_name": "images/0.png", "text": "a ball"}


def write_index(path: Path, entry: dict[str, str] = ENTRY) -> Path:
    write_image(path.parent / "images/0.png", np.zeros((8, 8, 3), np.uint8), overwrite=True)
    path.write_text(json.dumps(entry))
    return path


def test_an_index_in_train_is_read_and_said(tmp_path: Path) -> None:
    write_index(tmp_path / "train/metadata.jsonl")
    notes: list[str] = []
    dataset = open_dataset(tmp_path, note=notes.append)
    assert dataset[0].prompt == "a ball"
    assert dataset.name(0) == "images/0.png"
    assert notes == ["train/metadata.jsonl is read"]
    assert is_dataset(tmp_path)


@pytest.mark.parametrize("name", ["train.jsonl", "pairs.csv", "pairs.json"])
def test_an_index_of_any_name_is_read_where_it_is_named(tmp_path: Path, name: str) -> None:
    path = write_index(tmp_path / name)
    if name.endswith(".csv"):
        path.write_text("file_name,text\nimages/0.png,a ball\n")
    assert open_dataset(path)[0].prompt == "a ball"
    with pytest.raises(CnctlError, match="has no index") as caught:
        open_dataset(tmp_path)
    assert caught.value.hint == f"name the index itself: --data {path}"


def test_an_index_beside_another_is_said(tmp_path: Path) -> None:
    write_index(tmp_path / "metadata.jsonl")
    write_index(tmp_path / "metadata.csv")
    (tmp_path / "a.parquet").touch()
    notes: list[str] = []
    open_dataset(tmp_path, note=notes.append)
    assert notes == ["metadata.jsonl is read, and not metadata.csv, a.parquet"]


@pytest.mark.parametrize(
    ("image", "hint"), [("canny", "photos"), ("train", "conditioning"), ("images", "canny")]
)
def test_folders_that_may_be_pairs_are_named(tmp_path: Path, image: str, hint: str) -> None:
    for name in (image, hint):
        write_image(tmp_path / name / "0.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(CnctlError, match="has no index") as caught:
        open_dataset(tmp_path)
    assert caught.value.hint.startswith(f"--columns image={image},hint={hint} pairs the files")
    assert not is_dataset(tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(CnctlError, match=r"a\.txt: not a data set"):
        open_dataset(tmp_path / "a.txt")
