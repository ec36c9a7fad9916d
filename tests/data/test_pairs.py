import json
from pathlib import Path

import numpy as np
import pytest

from cnctl.data import Example, Selection, TrainingPairs
from cnctl.data.open import open_dataset
from cnctl.errors import CnctlError
from cnctl.images import fit_pair, write_image


class OneExample:
    """A dataset of one."""

    fingerprint = "one"
    ready_hints = 1

    def __init__(self, example: Example) -> None:
        self.example = example

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Example:
        return self.example

    def image_size(self, index: int) -> tuple[int, int]:
        return self.example.image.shape[:2]

    def name(self, index: int) -> str:
        return "the one"


def red(image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """The red channel, or a random constant where options are drawn."""
    return image[..., :1] if rng is None else np.full_like(image[..., :1], rng.integers(256))


def darken(hint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return hint // rng.integers(1, 9, dtype=np.uint8)


def pairs(example: Example, **changes: object) -> TrainingPairs:
    settings: dict = {"sizes": [(16, 16)], "hint_channels": 1, "detect": red} | changes
    return TrainingPairs(dataset=OneExample(example), **settings)


def test_image_and_hint_are_cut_alike() -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), 8, 0), 8, 1)
    loaded = pairs(Example(image, image[..., :1], "p"), sizes=[(32, 32)]).load(0)
    np.testing.assert_array_equal(loaded.image, image[:, 8:40])  # the middle 32 of 48 columns
    np.testing.assert_array_equal(loaded.hint, image[:, 8:40, :1])


def test_a_hint_of_another_size_lies_over_the_whole_image() -> None:
    """A spot is found in the same place of image and hint, whatever the hint's size."""
    image = np.zeros((60, 200, 3), np.uint8)
    image[20:30, 90:110] = 255
    for height, width in ((60, 200), (64, 192), (30, 100), (128, 384)):  # rounded to 64 by a tool
        hint = np.zeros((height, width, 1), np.uint8)
        rows, columns = (np.array([20, 30]) * height // 60), (np.array([90, 110]) * width // 200)
        hint[slice(*rows), slice(*columns)] = 255
        for at in ((0.5, 0.5), (0.5, 0.4)):
            cut = fit_pair(image, hint, size=(64, 64), at=at)
            centres = [np.argwhere(picture[..., 0] > 127).mean(axis=0) for picture in cut]
            np.testing.assert_allclose(*centres, atol=1.0)


def ramp(height: int, width: int) -> np.ndarray:
    """Each pixel names its row and column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)


def test_a_random_crop_is_the_same_window_of_both() -> None:
    image = ramp(16, 48)
    example = Example(image, image.copy(), "")
    moving = pairs(example, hint_channels=3, random_crop=True)
    lefts = set()
    for seed in range(60):
        loaded = moving.load(0, np.random.default_rng(seed))
        np.testing.assert_array_equal(loaded.hint, loaded.image)
        left = int(loaded.image[0, 0, 1])
        np.testing.assert_array_equal(loaded.image, image[:, left : left + 16])
        assert (loaded.original, loaded.corner) == ((16, 48), (0, left))
        lefts.add(left)
    assert min(lefts) <= 3
    assert max(lefts) >= 28
    assert moving.load(0).image[0, 0, 1] == 16  # without a generator the middle


def test_half_of_the_pairs_are_mirrored_together() -> None:
    image = ramp(16, 16)
    example = Example(image, image.copy(), "p")
    both = pairs(example, hint_channels=3, flip=True, mirror=lambda hint: 255 - hint[:, ::-1])
    mirrored = 0
    for seed in range(200):
        loaded = both.load(0, np.random.default_rng(seed))
        if loaded.image[0, 0, 1] == 15:
            mirrored += 1
            np.testing.assert_array_equal(loaded.image, image[:, ::-1])
            np.testing.assert_array_equal(loaded.hint, 255 - image[:, ::-1])
        else:
            np.testing.assert_array_equal(loaded.image, image)
            np.testing.assert_array_equal(loaded.hint, image)
    assert 70 < mirrored < 130
    np.testing.assert_array_equal(both.load(0).image, image)


def test_a_hint_that_is_detected_is_that_of_the_mirrored_image() -> None:
    example = Example(ramp(16, 16), None, "p")
    flipped = pairs(example, flip=True, mirror=None, detect=lambda image, rng: image[..., :1])
    for seed in range(8):
        loaded = flipped.load(0, np.random.default_rng(seed))
        np.testing.assert_array_equal(loaded.hint, loaded.image[..., :1])


def test_a_hint_without_a_mirror_image_is_refused() -> None:
    image = ramp(16, 16)
    stuck = pairs(Example(image, image, ""), hint_channels=3, flip=True, mirror=None)
    unlucky = next(s for s in range(20) if np.random.default_rng(s).random() < 0.5)
    with pytest.raises(
        CnctlError, match=r"^the one: a stored hint of this condition cannot be mirrored"
    ):
        stuck.load(0, np.random.default_rng(unlucky))


def test_each_pair_takes_the_size_of_nearest_aspect(tmp_path: Path) -> None:
    shapes = [(30, 60), (60, 30), (40, 40), (31, 60)]
    for number, (height, width) in enumerate(shapes):
        write_image(tmp_path / f"{number}.png", ramp(height, width))
    lines = [json.dumps({"image": f"{number}.png"}) for number in range(len(shapes))]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    sizes = [(16, 32), (24, 24), (32, 16)]
    bucketed = TrainingPairs(
        dataset=open_dataset(tmp_path), sizes=sizes, hint_channels=1, detect=red
    )
    chosen = Selection(bucketed, (0, 1, 2, 3))
    assert chosen.groups.tolist() == [0, 2, 1, 0]
    assert chosen.sizes == {(16, 32): 2, (32, 16): 1, (24, 24): 1}
    for index, group in enumerate(chosen.groups):
        loaded = chosen.load(index)
        assert loaded.image.shape[:2] == loaded.hint.shape[:2] == sizes[group]


def test_a_missing_hint_is_detected_in_the_image_on_deviceing_size() -> None:
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
        dataset=open_dataset("scenes:9", size=32), sizes=[(32, 32)], hint_channels=1, detect=red
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
        dataset=open_dataset(tmp_path), sizes=[(16, 16)], hint_channels=1, detect=red
    )
    with pytest.raises(CnctlError, match=r"^[^\n]*a\.png is [^\n]*$"):
        truncated.load(0)
