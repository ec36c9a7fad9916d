"""Folders as kohya-ss' trainer, SimpleTuner and OneTrainer read them."""

from pathlib import Path

import numpy as np
import pytest

from cnctl.data import open_dataset
from cnctl.data.problems import refuse_fatal
from cnctl.errors import CnctlError
from cnctl.images import write_image


def picture(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


def write_pairs(folder: Path, images: str, hints: str, *, label: str = "") -> None:
    for number in range(3):
        write_image(folder / images / f"{number}.png", picture(number))
        write_image(folder / hints / f"{number}{label}.png", picture(100 + number))
        (folder / images / f"{number}.txt").write_text(f"\ufeffnumber {number}\n")


@pytest.mark.parametrize(
    ("images", "hints", "columns"),
    [
        ("images", "conditioning", None),
        ("image", "conditioning_images", None),
        ("img", "canny", "image=img,hint=canny"),
    ],
)
def test_images_hints_and_texts_of_equal_names(
    tmp_path: Path, images: str, hints: str, columns: str | None
) -> None:
    write_pairs(tmp_path, images, hints)
    dataset = open_dataset(tmp_path, columns=columns)
    assert (len(dataset), dataset.ready_hints, dataset.ready_prompts) == (3, 3, 3)
    for number in range(3):
        example = dataset[number]
        assert (example.image == number).all()
        assert (example.hint == 100 + number).all()
        assert example.prompt == f"number {number}"
    assert dataset.name(1) == f"{images}/1.png"
    assert dataset.problems == ()


def test_hints_with_a_label_in_one_folder(tmp_path: Path) -> None:
    write_pairs(tmp_path, ".", ".", label="-condlabel")
    write_image(tmp_path / "1-masklabel.png", picture(9))
    dataset = open_dataset(tmp_path)
    assert (len(dataset), dataset.ready_hints, dataset[2].prompt) == (3, 3, "number 2")
    assert (dataset[2].hint == 102).all()
    assert [p.what for p in dataset.problems] == [
        "not read: 1 more file, the first is 1-masklabel.png"
    ]


def test_what_has_no_partner_is_named(tmp_path: Path) -> None:
    write_pairs(tmp_path, "images", "conditioning")
    (tmp_path / "conditioning/1.png").rename(tmp_path / "conditioning/7.png")
    (tmp_path / "images/2.txt").unlink()
    write_image(tmp_path / "images/0.jpg", picture(5))
    dataset = open_dataset(tmp_path)
    assert dataset.ready_prompts == 2
    assert [(p.name, p.what, p.fatal) for p in dataset.problems if "more files" not in p.what] == [
        ("images/0.jpg", "the same name as images/0.png", True),
        ("images/1.png", "it has no hint in conditioning/", True),
        ("conditioning/7.png", "there is no image of this name", False),
    ]
    with pytest.raises(CnctlError, match="and 1 more, which --check lists"):
        refuse_fatal(dataset.problems)


def test_prompts_in_a_folder_or_none(tmp_path: Path) -> None:
    write_pairs(tmp_path, "images", "conditioning")
    assert open_dataset(tmp_path, columns="prompt=").ready_prompts == 0
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions/1.txt").write_text("one")
    dataset = open_dataset(tmp_path)
    assert [dataset[number].prompt for number in range(3)] == ["", "one", ""]
    assert [p.what for p in dataset.problems] == [
        "not read: 3 more files, the first is images/0.txt"
    ]


def test_hints_that_are_to_be_detected(tmp_path: Path) -> None:
    write_pairs(tmp_path, "images", "canny")
    dataset = open_dataset(tmp_path, columns="image=images,hint=")
    assert (len(dataset), dataset.ready_hints) == (3, 0)
    with pytest.raises(CnctlError, match=r"--columns hint=depth: .* has no 'depth'"):
        open_dataset(tmp_path, columns="hint=depth")


def test_the_fingerprint_follows_prompts_and_names(tmp_path: Path) -> None:
    write_pairs(tmp_path, "images", "conditioning")
    before = open_dataset(tmp_path).fingerprint
    assert open_dataset(tmp_path).fingerprint == before
    (tmp_path / "images/0.txt").write_text("other")
    assert open_dataset(tmp_path).fingerprint != before


def test_a_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    write_pairs(tmp_path, "images", "conditioning")
    (tmp_path / "images/1.txt").write_bytes(b"z\xfcrich")
    with pytest.raises(CnctlError, match=r"images/1\.txt, line 1, is not UTF-8"):
        open_dataset(tmp_path)
