import numpy as np
import pytest
from diffusers import ControlNetModel

from cnctl.commands.shared.report.sheets import GAP
from cnctl.commands.train.previews import ValidationSet, make_preview
from cnctl.models.base import Base
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.sampling.denoise import sample


def validation(count: int, **changes: object) -> ValidationSet:
    rng = np.random.default_rng(0)
    settings: dict = {
        "hints": rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8),
        "prompts": ["a"] * count,
        "detect": lambda image: image,
        "metric": "rmse",
        "steps": 1,
        "guidance_scale": 2.0,
        "scheduler": "ddim",
        "batch_size": 2,
    }
    return ValidationSet(**settings | changes)


def test_fidelity_is_the_mean_over_all_and_the_picture_shows_the_first(
    loaded_random_base: Base, random_controlnet: ControlNetModel
) -> None:
    seen: list[np.ndarray] = []
    kept = validation(5, detect=lambda image: seen.append(image) or image)
    made = make_preview(loaded_random_base, random_controlnet, kept)
    assert made is not None
    errors = [
        np.sqrt(np.mean((hint.astype(float) - image) ** 2)) / 255
        for hint, image in zip(kept.hints, seen, strict=True)
    ]
    assert made.fidelity == pytest.approx(np.mean(errors))
    assert made.picture.shape == (4 * (64 + GAP) + GAP, 3 * (64 + GAP) + GAP, 3)
    cell = made.picture[GAP : GAP + 64, GAP:]
    np.testing.assert_array_equal(cell[:, :64], kept.hints[0])
    np.testing.assert_array_equal(cell[:, 64 + GAP : 128 + GAP], seen[0])


def test_before_training_it_shows_the_base_alone(loaded_random_base: Base) -> None:
    settings = {"height": 64, "width": 64, "steps": 1}
    alone = sample(loaded_random_base, [], ["a"], seeds=[0], guidance_scale=2.0, **settings)
    seen: list[np.ndarray] = []
    fresh = build_controlnet(loaded_random_base.denoiser)
    make_preview(
        loaded_random_base, fresh, validation(1, detect=lambda image: seen.append(image) or image)
    )
    np.testing.assert_array_equal(seen, alone)


def test_previews_do_not_depend_on_the_batch(
    loaded_random_base: Base, random_controlnet: ControlNetModel
) -> None:
    one, many = (
        make_preview(loaded_random_base, random_controlnet, validation(3, batch_size=size))
        for size in (1, 3)
    )
    assert one is not None
    assert many is not None
    assert np.abs(one.picture.astype(int) - many.picture).max() <= 1


def test_training_mode_is_left_as_it_was(
    loaded_random_base: Base, random_controlnet: ControlNetModel
) -> None:
    random_controlnet.train()
    try:
        make_preview(loaded_random_base, random_controlnet, validation(1))
        assert random_controlnet.training
    finally:
        random_controlnet.eval()


def test_without_examples_there_is_no_preview(
    loaded_random_base: Base, random_controlnet: ControlNetModel
) -> None:
    assert make_preview(loaded_random_base, random_controlnet, validation(0)) is None


def test_without_the_detector_there_is_a_picture_and_no_number(
    loaded_random_base: Base, random_controlnet: ControlNetModel
) -> None:
    def detect(image: np.ndarray) -> np.ndarray:
        raise AssertionError("a detector that lacks its weights was asked")

    lacking = validation(1, detect=detect, missing="its weights")
    made = make_preview(loaded_random_base, random_controlnet, lacking)
    assert made is not None
    assert made.fidelity is None
    assert made.picture.shape == (64 + 2 * GAP, 3 * (64 + GAP) + GAP, 3)
