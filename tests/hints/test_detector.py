"""The lazy handle on a detector, against the detector called directly."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from cnctl.errors import CnctlError
from cnctl.hints.detector import Detector, HintReader
from cnctl.images import write_hint
from cnctl.plugin import BatchDetector, Condition, Option
from cnctl.registry import get_condition

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def test_the_condition_loads_its_detector_once_and_at_the_first_image() -> None:
    loaded = []

    def load(device):
        loaded.append(device)
        return lambda image: 255 - image

    detect = Detector(Condition(name="inverse", summary="", load_detector=load), device="cuda:1")
    assert loaded == []
    np.testing.assert_array_equal(detect(IMAGE), 255 - IMAGE)
    np.testing.assert_array_equal(detect(IMAGE // 2), 255 - IMAGE // 2)
    assert loaded == ["cuda:1"]


def test_options_are_given_or_drawn_or_the_defaults() -> None:
    condition = Condition(
        name="scaled",
        summary="",
        load_detector=lambda device: lambda image, factor, offset: image // factor + offset,
        options={"factor": Option(2), "offset": Option(0)},
        training_options=lambda rng: {"factor": int(rng.integers(3, 9)), "offset": 7},
    )
    detect, drawn = Detector(condition), int(np.random.default_rng(5).integers(3, 9))
    np.testing.assert_array_equal(detect(IMAGE), IMAGE // 2)
    np.testing.assert_array_equal(detect(IMAGE, factor=4), IMAGE // 4)
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(detect(IMAGE, rng), IMAGE // drawn + 7)
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(detect(IMAGE, rng, offset=1), IMAGE // drawn + 1)


def test_maps_give_the_hint_without_the_detector() -> None:
    condition = Condition(
        name="mapped",
        summary="",
        load_detector=lambda device: pytest.fail("must not be loaded"),
        from_maps=lambda maps, gain: maps["image"] // gain,
        options={"gain": Option(2)},
        training_options=lambda rng: {"gain": 3},
    )
    maps, detect = {"image": IMAGE}, Detector(condition)
    np.testing.assert_array_equal(detect.from_maps(maps), IMAGE // 2)
    np.testing.assert_array_equal(detect.from_maps(maps, np.random.default_rng(0)), IMAGE // 3)


def test_a_batch_is_one_call_where_the_detector_can() -> None:
    shapes = []

    def detect(images):
        shapes.append(images.shape)
        return 255 - images

    condition = Condition(
        name="many", summary="", load_detector=lambda device: BatchDetector(detect)
    )
    found = Detector(condition).batch([IMAGE, IMAGE // 2])
    np.testing.assert_array_equal(found[1].hint, 255 - IMAGE // 2)
    assert shapes == [(2, *IMAGE.shape)]


def test_a_pickled_detector_draws_the_same_hints() -> None:
    detect = Detector(get_condition("canny"))
    np.testing.assert_array_equal(detect(IMAGE)[..., 0], cv2.Canny(IMAGE, 100, 200))
    again = pickle.loads(pickle.dumps(detect))
    for seed in range(3):
        hints = [one(IMAGE, np.random.default_rng(seed)) for one in (detect, again)]
        np.testing.assert_array_equal(*hints)


def test_a_pickled_detector_keeps_its_device_and_licence() -> None:
    detect = Detector(get_condition("openpose"), device="meta", commercial=True)
    again = pickle.loads(pickle.dumps(detect))
    assert (again.device, again.condition.name) == ("meta", "openpose")
    with pytest.raises(CnctlError, match="non-commercial"):
        again.load()


def test_a_pickled_reader_reads_hints_of_its_condition(tmp_path: Path) -> None:
    write_hint(tmp_path / "hint.png", IMAGE)
    reader = pickle.loads(pickle.dumps(HintReader(get_condition("canny"))))
    np.testing.assert_array_equal(reader(tmp_path / "hint.png"), IMAGE)
