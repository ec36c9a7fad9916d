import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cnctl.data import open_dataset
from cnctl.data.folder import FolderDataset
from cnctl.errors import CnctlError
from cnctl.images import read_hint, write_hint, write_image

IMAGE = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


def write_lines(path: Path, *entries: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_a_folder_with_metadata(tmp_path: Path) -> None:
    hint = np.full((16, 16, 6), 7, np.uint8)
    write_image(tmp_path / "images/a.png", IMAGE)
    write_hint(tmp_path / "hints/a.npz", hint)
    entry = {"image": "images/a.png", "hint": "hints/a.npz", "prompt": "a hill"}
    write_lines(tmp_path / "metadata.jsonl", entry, {"image": "images/a.png"})
    dataset = open_dataset(tmp_path, read_hint=partial(read_hint, channels=6))
    first, second = dataset[0], dataset[1]
    assert len(dataset) == 2
    np.testing.assert_array_equal(first.image, IMAGE)
    np.testing.assert_array_equal(first.hint, hint)
    assert (first.prompt, second.hint, second.prompt) == ("a hill", None, "")
    assert dataset.name(0) == "images/a.png"


def test_fill50k_source_is_the_hint_and_target_the_image(tmp_path: Path) -> None:
    write_image(tmp_path / "target/0.png", IMAGE)
    write_image(tmp_path / "source/0.png", 255 - IMAGE)
    entry = {"source": "source/0.png", "target": "target/0.png", "prompt": "a circle"}
    write_lines(tmp_path / "prompt.json", entry)
    for spec in (tmp_path, tmp_path / "prompt.json"):
        example = open_dataset(spec)[0]
        np.testing.assert_array_equal(example.image, IMAGE)
        np.testing.assert_array_equal(example.hint, 255 - IMAGE)
        assert example.prompt == "a circle"


@pytest.mark.parametrize("form", ["metadata.jsonl", "metadata.csv"])
def test_a_hugging_face_imagefolder(tmp_path: Path, form: str) -> None:
    write_image(tmp_path / "images/a.png", IMAGE)
    write_image(tmp_path / "conditions/a.png", 255 - IMAGE)
    entry = {
        "file_name": "images/a.png",
        "conditioning_image_file_name": "conditions/a.png",
        "text": 'a "hill", far off',
    }
    if form == "metadata.csv":
        with (tmp_path / form).open("w", newline="") as file:
            writer = csv.DictWriter(file, entry)
            writer.writeheader()
            writer.writerows([entry, {"file_name": "images/a.png"}])
    else:
        write_lines(tmp_path / form, entry, {"file_name": "images/a.png"})
    first, second = (open_dataset(tmp_path)[i] for i in range(2))
    np.testing.assert_array_equal(first.image, IMAGE)
    np.testing.assert_array_equal(first.hint, 255 - IMAGE)
    assert first.prompt == 'a "hill", far off'
    assert (second.hint, second.prompt) == (None, "")


def test_a_table_without_the_columns_says_which(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("picture,label\na.png,cat\n")
    with pytest.raises(CnctlError, match=r"line 2 of .*has no 'image'") as caught:
        open_dataset(tmp_path)
    assert caught.value.hint == (
        "it has 'picture', 'label'; --columns maps them, or "
        "its first line names the columns: image,hint,prompt"
    )


def test_scenes_are_a_function_of_their_number() -> None:
    dataset = open_dataset("scenes:3", size=64)
    assert len(dataset) == 3
    assert dataset[1].image.shape == (64, 64, 3)
    assert dataset[1].hint is None
    assert dataset[1].prompt
    np.testing.assert_array_equal(dataset[1].image, open_dataset("scenes:9", size=64)[1].image)


def test_the_fingerprint_follows_the_index(tmp_path: Path) -> None:
    write_lines(tmp_path / "metadata.jsonl", {"image": "a.png"}, {"image": "b.png"})
    before = open_dataset(tmp_path).fingerprint
    assert open_dataset(tmp_path).fingerprint == before
    write_lines(tmp_path / "metadata.jsonl", {"image": "a.png"})
    assert open_dataset(tmp_path).fingerprint != before
    assert open_dataset("scenes:3").fingerprint != open_dataset("scenes:4").fingerprint


def test_missing_files_are_found_without_reading_any(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    write_lines(tmp_path / "metadata.jsonl", {"image": "a.png", "hint": "h.png"})
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, FolderDataset)
    assert dataset.missing() == [tmp_path / "h.png"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.jsonl", "", "holds no examples"),
        ("metadata.jsonl", "\n\n", "holds no examples"),
        ("metadata.jsonl", '{"image": "a.png"}\n{"ima', "line 2 of .* is not JSON"),
        ("metadata.jsonl", '{"picture": "a.png"}', "line 1 of .* has no 'image'"),
        ("metadata.jsonl", '["a.png"]', "has no 'image'"),
        ("metadata.jsonl", '{"image": "a.png", "prompt": 3}', "'prompt' is not text"),
        ("prompt.json", '{"source": "a.png"}', "has no 'target'"),
        ("other.txt", "", r"has no index \(metadata.jsonl, metadata.csv"),
    ],
)
def test_what_is_no_dataset_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CnctlError, match=message):
        open_dataset(tmp_path)


def test_specs_that_name_nothing() -> None:
    with pytest.raises(CnctlError, match="no such folder"):
        open_dataset("nowhere")
    with pytest.raises(CnctlError, match="holds no examples"):
        open_dataset("scenes:0")
