import json
from pathlib import Path

import numpy as np
import pytest

from cnctl.dataset import Example, Selection, TrainingPairs
from cnctl.dataset.examples import open_dataset
from cnctl.errors import CnctlError
from cnctl.images import write_image


class OneExample:
    """A dataset of one."""

    fingerprint = "one"

    def __init__(self, example: Example) -> None:
        self.example = example

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Example:
        return self.example

    def name(self, index: int) -> str:
        return "the one"


def red(image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """The red channel, or a random constant where options are drawn."""
    return image[..., :1] if rng is None else np.full_like(image[..., :1], rng.integers(256))


def darken(hint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return hint // rng.integers(1, 9, dtype=np.uint8)


def pairs(example: Example, **changes: object) -> TrainingPairs:
    settings: dict = {"size": (16, 16), "hint_channels": 1, "detect": red} | changes
    return TrainingPairs(dataset=OneExample(example), **settings)


def test_image_and_hint_are_cut_alike() -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), 8, 0), 8, 1)
    loaded = pairs(Example(image, image[..., :1], "p"), size=(32, 32)).load(0)
    np.testing.assert_array_equal(loaded.image, image[:, 8:40])  # the middle 32 of 48 columns
    np.testing.assert_array_equal(loaded.hint, image[:, 8:40, :1])


def test_a_missing_hint_is_detected_in_the_image_at_working_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    loaded = pairs(Example(image, None, "")).load(0)
    np.testing.assert_array_equal(loaded.hint, loaded.image[..., :1])


def test_nothing_found_is_a_hint_of_zeros() -> None:
    image = np.full((16, 16, 3), 9, np.uint8)
    blind = pairs(Example(image, None, ""), detect=lambda image, rng: None, hint_channels=6)
    np.testing.assert_array_equal(blind.load(0).hint, np.zeros((16, 16, 6), np.uint8))


def test_what_is_random_comes_from_the_generator_alone() -> None:
    image = np.full((16, 16, 3), 9, np.uint8)
    random = pairs(Example(image, None, ""), augment=darken)
    first, again = (random.load(0, np.random.default_rng(5)).hint for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8
    other = random.load(0, np.random.default_rng(6)).hint
    assert (first != other).any()
    np.testing.assert_array_equal(random.load(0).hint, np.full((16, 16, 1), 9))


def test_an_augmentation_that_changes_more_than_values_is_refused() -> None:
    wrong = pairs(
        Example(np.zeros((16, 16, 3), np.uint8), None, ""), augment=lambda hint, rng: hint[:8]
    )
    with pytest.raises(CnctlError, match="the one: the augmentation returned uint8"):
        wrong.load(0, np.random.default_rng(0))


def test_a_palette_keeps_its_values() -> None:
    labels = np.random.default_rng(0).choice([0, 255], (24, 24, 3)).astype(np.uint8)
    example = Example(np.zeros((24, 24, 3), np.uint8), labels, "")
    kept = pairs(example, nearest=True, hint_channels=3).load(0).hint
    assert set(np.unique(kept)) <= {0, 255}


def test_a_selection_counts_anew() -> None:
    scenes = TrainingPairs(
        dataset=open_dataset("scenes:9", size=32), size=(32, 32), hint_channels=1, detect=red
    )
    chosen = Selection(scenes, (2, 7))
    assert len(chosen) == 2
    assert chosen.name(1) == "scene 7"
    np.testing.assert_array_equal(chosen.load(1).image, scenes.load(7).image)


def test_errors_name_the_example(tmp_path: Path) -> None:
    def broken(image: np.ndarray, rng: object) -> np.ndarray:
        raise CnctlError("the detector failed")

    with pytest.raises(CnctlError, match=r"^the one: the detector failed$"):
        pairs(Example(np.zeros((16, 16, 3), np.uint8), None, ""), detect=broken).load(0)
    write_image(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"image": "a.png"}))
    truncated = TrainingPairs(
        dataset=open_dataset(tmp_path), size=(16, 16), hint_channels=1, detect=red
    )
    with pytest.raises(CnctlError, match=r"^[^\n]*a\.png is [^\n]*$"):
        truncated.load(0)
