import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cnctl.data import DatasetWriter, Example, open_dataset
from cnctl.errors import CnctlError, OutputError
from cnctl.images import read_hint

IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


def example(channels: int = 3, prompt: str = "a “quoted” hill\nat night") -> Example:
    return Example(IMAGE, np.full((8, 8, channels), 3, np.uint8), prompt)


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_what_is_written_is_read_back(tmp_path: Path, channels: int) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.add("a/cat", example(channels))
        writer.add("b/cat", example(channels, prompt=""))
    dataset = open_dataset(tmp_path, read_hint=partial(read_hint, channels=channels))
    assert [dataset.name(index) for index in range(2)] == ["images/a/cat.png", "images/b/cat.png"]
    np.testing.assert_array_equal(dataset[0].image, IMAGE)
    np.testing.assert_array_equal(dataset[0].hint, example(channels).hint)
    assert dataset[0].prompt == example().prompt
    assert len((tmp_path / "metadata.jsonl").read_text().splitlines()) == 2


def test_a_folder_is_gone_on_with_and_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.add("one", example())
    whole = (tmp_path / "metadata.jsonl").read_bytes()
    (tmp_path / "metadata.jsonl").write_bytes(whole + b'{"image_file_name": "images/tw')
    with DatasetWriter(tmp_path) as writer:
        assert "one" in writer
        assert "two" not in writer
        assert len(writer) == 1
        writer.add("two", example())
    lines = (tmp_path / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line)["image_file_name"] for line in lines] == [
        "images/one.png",
        "images/two.png",
    ]


def test_a_last_line_without_a_line_feed_is_kept(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.add("one", example())
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(path.read_bytes().rstrip())
    with DatasetWriter(tmp_path) as writer:
        assert "one" in writer
        writer.add("two", example())
    assert [json.loads(line)["image_file_name"] for line in path.read_text().splitlines()] == [
        "images/one.png",
        "images/two.png",
    ]


@pytest.mark.parametrize("line", ['{"file_name": "a.png"}', '["a.png"]', "{"])
def test_an_index_of_another_tool_is_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metadata.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(OutputError, match=r"line 1 of .*metadata\.jsonl was not written by cnctl"):
        DatasetWriter(tmp_path)
    assert path.read_text() == f"{line}\n"


def test_files_without_a_line_are_kept_if_they_are_the_same(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path) as writer:
        writer.add("cat", example())
    (tmp_path / "metadata.jsonl").write_bytes(b"")  # interrupted before its line
    with DatasetWriter(tmp_path) as writer:
        writer.add("cat", example())
    np.testing.assert_array_equal(open_dataset(tmp_path)[0].image, IMAGE)


@pytest.mark.parametrize("name", ["images/cat.png", "hints/cat.png"])
def test_other_peoples_files_without_a_line_are_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"a photograph")
    with (
        DatasetWriter(tmp_path) as writer,
        pytest.raises(OutputError, match=r"does not list it"),
    ):
        writer.add("cat", example())
    assert (tmp_path / name).read_bytes() == b"a photograph"
    assert len(writer) == 0


def test_names_are_held_to_the_folder(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set") as writer:
        for name in ("../cat", "/tmp/cat"):
            with pytest.raises(CnctlError, match="is not below the folder"):
                writer.add(name, example())
        writer.add("cat", example())
        with pytest.raises(CnctlError, match=r"is already in"):
            writer.add("cat", example())
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        DatasetWriter(tmp_path / "file")


def test_a_folder_of_an_earlier_version_is_continued(tmp_path):
    entry = {"image": "images/old.png", "hint": "hints/old.png", "prompt": "a"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(entry) + "\n")
    with DatasetWriter(tmp_path) as writer:
        assert "old" in writer
        assert writer.entry("old") == entry
