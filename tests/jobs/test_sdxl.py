"""Generating and training on an SDXL base of reduced width, as jobs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetModel
from PIL import Image

from cnctl.errors import CnctlError
from cnctl.images import write_image
from cnctl.jobs.controls import ControlSpec
from cnctl.jobs.generate import generate
from cnctl.jobs.generate_setup import GenerateRequest
from cnctl.jobs.replay import replay

CANNY = [ControlSpec(condition="canny")]
SETTINGS = {"steps": 2, "guidance_scale": 5.0}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.full((64, 96, 3), 40, np.uint8)
    pixels[20:50, 30:70] = (230, 120, 40)
    write_image(tmp_path / "box.png", pixels)
    return tmp_path / "box.png"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_generates_and_makes_the_same_again(
    random_sdxl_base: Path, sdxl_controlnet: ControlNetModel, photo: Path, tmp_path: Path
) -> None:
    sdxl_controlnet.save_pretrained(tmp_path / "control")
    request = GenerateRequest(
        controls=CANNY,
        images=[photo],
        prompt="a red house " * 20,
        weights=[str(tmp_path / "control")],
        base=str(random_sdxl_base),
        settings=SETTINGS,
        out=tmp_path / "out",
    )
    [made] = generate(request)
    assert pixels(made.path).shape == (64, 96, 3)
    asked = GenerateRequest(
        base=str(random_sdxl_base), weights=[str(tmp_path / "control")], out=tmp_path / "again"
    )
    [again] = generate(replay(made.path, asked))
    assert np.array_equal(pixels(again.path), pixels(made.path))
    [other] = generate(replay(made.path, replace(asked, prompt="a cat", overwrite=True)))
    assert not np.array_equal(pixels(other.path), pixels(made.path))


def test_a_controlnet_for_another_family_is_refused_before_weights_load(
    random_sdxl_base: Path, random_controlnet: ControlNetModel, photo: Path, tmp_path: Path
) -> None:
    random_controlnet.save_pretrained(tmp_path / "control")
    asked = GenerateRequest(
        controls=CANNY,
        images=[photo],
        prompt="a cat",
        weights=[str(tmp_path / "control")],
        base=str(random_sdxl_base),
    )
    with pytest.raises(CnctlError, match=r"this ControlNet was made for .*; the base is") as caught:
        next(generate(asked))
    assert caught.value.hint.startswith("choose a base of")
