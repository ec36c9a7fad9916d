"""Weights that do not fit are refused from headers: the base here has none that could be read."""

from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from safetensors.torch import save_file

from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.shared.weights import NamedControl, check_controls
from cnctl.errors import CnctlError, MissingError
from cnctl.images import write_image
from cnctl.registry import get_condition


@pytest.fixture
def base(own_base: Path) -> Path:
    """A base without weights."""
    for path in own_base.glob("*/*.safetensors"):
        path.unlink()
    return own_base


def check(base: Path, weights: object, condition: str = "canny") -> None:
    check_controls(base, [NamedControl(get_condition(condition), str(weights))])


def test_what_fits(base: Path, random_controlnet: ControlNetModel, tmp_path: Path) -> None:
    random_controlnet.save_pretrained(tmp_path / "control")
    check(base, tmp_path / "control")


def test_one_that_comes_with_cnctl_by_the_name_that_is_listed() -> None:
    check(Path("tiny"), "tiny/canny", "tile")
    with pytest.raises(MissingError, match="no ControlNet 'tiny/cany'"):
        check(Path("tiny"), "tiny/cany")


def test_another_family(base: Path, sdxl_controlnet: ControlNetModel, tmp_path: Path) -> None:
    sdxl_controlnet.save_pretrained(tmp_path / "control")
    with pytest.raises(
        CnctlError, match=r"this ControlNet was made for .*; the base is U-Net 16-32"
    ):
        check(base, tmp_path / "control")


def test_a_checkpoint_as_control(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "sd15.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(2)}, path)
    with pytest.raises(CnctlError, match="a base of Stable Diffusion, not a ControlNet") as caught:
        check(base, path)
    assert caught.value.hint == "give it with --base"


def test_a_union_for_other_conditions(
    random_sdxl_base: Path, sdxl_union: ControlNetUnionModel, tmp_path: Path
) -> None:
    sdxl_union.save_pretrained(tmp_path / "union")
    check(random_sdxl_base, tmp_path / "union")
    with pytest.raises(CnctlError, match="shuffle is not a kind of hint that it knows"):
        check(random_sdxl_base, tmp_path / "union", "shuffle")


def test_generate_says_it_before_the_base_is_read(
    base: Path,
    sdxl_controlnet: ControlNetModel,
    random_controlnet: ControlNetModel,
    tmp_path: Path,
    scene: Path,
) -> None:
    sdxl_controlnet.save_pretrained(tmp_path / "other")
    random_controlnet.save_pretrained(tmp_path / "fitting")
    for name, error in (("other", CnctlError), ("fitting", MissingError)):
        request = GenerateRequest(
            images=[scene],
            controls=["canny"],
            prompt="a cat",
            base=str(base),
            weights=[str(tmp_path / name)],
            out=tmp_path / "out",
        )
        with pytest.raises(error) as caught:
            list(generate(request))
        assert type(caught.value) is error


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A square in black and white."""
    import numpy as np

    image = np.zeros((64, 64, 3), np.uint8)
    image[16:48, 16:48] = 255
    write_image(tmp_path / "scene.png", image)
    return tmp_path / "scene.png"
