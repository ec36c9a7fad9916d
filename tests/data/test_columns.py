"""Columns that are not known: named, mapped, and never replaced by a detected hint."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnctl.data import open_dataset
from cnctl.data.columns import names_image, parse_columns
from cnctl.data.problems import refuse_fatal
from cnctl.errors import CnctlError
from cnctl.images import write_image

IMAGE = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


def index(folder: Path, *entries: dict[str, object], name: str = "metadata.jsonl") -> Path:
    write_image(folder / "a.png", IMAGE, overwrite=True)
    write_image(folder / "h.png", 255 - IMAGE, overwrite=True)
    (folder / name).write_text("\n".join(map(json.dumps, entries)))
    return folder / name


def test_what_is_mapped() -> None:
    assert parse_columns("image=file, hint = control_image,prompt=") == {
        "image": "file",
        "hint": "control_image",
        "prompt": "",
    }
    assert parse_columns(None) == {}


@pytest.mark.parametrize("text", ["hint", "mask=a", "hint=a,hint=b", "image=", "=a"])
def test_what_maps_nothing_is_refused(text: str) -> None:
    with pytest.raises(CnctlError, match="it maps image, hint and prompt") as caught:
        parse_columns(text)
    assert "for example --columns image=" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("cond/a.PNG", True),
        ("h.npz", True),
        ({"bytes": b"", "path": None}, True),
        (b"", True),
        ("https://host/a.png", False),
        ("a red ball", False),
        (7, False),
    ],
)
def test_what_may_be_an_image(value: object, expected: bool) -> None:
    assert names_image(value) is expected


def test_a_hint_under_another_name_is_never_detected(tmp_path: Path) -> None:
    path = index(tmp_path, {"image": "a.png", "control_image": "h.png", "prompt": "x"})
    problems = open_dataset(path).problems
    with pytest.raises(CnctlError, match=r"1 of 1 examples have no hint, and 'control_image'"):
        refuse_fatal(problems)
    assert problems[0].hint == (
        "--columns hint=control_image reads it, --columns hint= detects the hints"
    )
    mapped = open_dataset(path, columns="hint=control_image")
    np.testing.assert_array_equal(mapped[0].hint, 255 - IMAGE)
    assert mapped.problems == ()
    detected = open_dataset(path, columns="hint=")
    assert detected.ready_hints == 0
    assert [p.what for p in detected.problems] == ["columns that are not read: control_image"]
    refuse_fatal(detected.problems)


def test_all_columns_mapped_in_csv(tmp_path: Path) -> None:
    index(tmp_path)
    (tmp_path / "set.csv").write_text("file,control_image,title,size\na.png,h.png,a ball,16\n")
    dataset = open_dataset(
        tmp_path / "set.csv", columns="image=file,hint=control_image,prompt=title"
    )
    np.testing.assert_array_equal(dataset[0].image, IMAGE)
    np.testing.assert_array_equal(dataset[0].hint, 255 - IMAGE)
    assert dataset[0].prompt == "a ball"
    assert [str(p) for p in dataset.problems] == [
        f"{tmp_path}/set.csv: columns that are not read: size (--columns maps them)"
    ]


def test_a_mapped_name_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = index(tmp_path, {"image": "a.png", "prompt": "x"})
    with pytest.raises(CnctlError, match=r"--columns hint=contrl: .* has no 'contrl'") as caught:
        open_dataset(path, columns="hint=contrl")
    assert caught.value.hint == "it has image, prompt"
    with pytest.raises(CnctlError, match="scenes have no columns"):
        open_dataset("scenes:2", columns="hint=a")


def test_of_two_known_columns_the_other_is_named(tmp_path: Path) -> None:
    path = index(tmp_path, {"image": "a.png", "text": "one", "caption": "two"})
    dataset = open_dataset(path)
    assert dataset[0].prompt == "one"
    assert [p.what for p in dataset.problems] == ["columns that are not read: caption"]


def test_what_is_known_or_a_record_is_not_named(tmp_path: Path) -> None:
    record = {"condition": "canny", "options": {"low": 3}, "resolution": 64}
    path = index(
        tmp_path,
        {"image": "a.png", "hint": "h.png", "prompt": "x", **record},
        {"image": "a.png", "file_name": "a.png", "hint": "", "prompt": "y"} | record,
        {"image": "a.png", "prompt": ""},
    )
    dataset = open_dataset(path)
    assert dataset.problems == ()
    assert (dataset.ready_hints, dataset.ready_prompts) == (1, 2)
