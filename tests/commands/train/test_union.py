"""A ControlNet-Union in `generate` and `train`: the condition tells which kind its hints are."""

from pathlib import Path

import numpy as np
import pytest
from diffusers import ControlNetUnionModel
from PIL import Image

from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.shared.weights import open_control
from cnctl.commands.train.run import TrainRequest, train
from cnctl.errors import CnctlError
from cnctl.images import write_image
from cnctl.models.base import Base
from cnctl.models.unet.union import UnionView
from cnctl.registry import get_condition


@pytest.fixture
def union(sdxl_union: ControlNetUnionModel, tmp_path: Path) -> Path:
    sdxl_union.save_pretrained(tmp_path / "union")
    return tmp_path / "union"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("openpose", 0),
        ("depth", 1),
        ("scribble", 2),
        ("canny", 3),
        ("normal-bae", 4),
        ("ade20k", 5),
    ],
)
def test_the_condition_tells_the_kind(
    loaded_sdxl_base: Base, union: Path, name: str, kind: int
) -> None:
    network = open_control(get_condition(name), loaded_sdxl_base, weights=str(union))
    assert isinstance(network, UnionView)
    assert network.control_type == kind


@pytest.mark.parametrize(
    ("name", "error"),
    [("shuffle", "shuffle is not a kind of hint that it knows"), ("tile", "knows 6 kinds of hint")],
)
def test_a_condition_that_it_does_not_know_is_refused(
    loaded_sdxl_base: Base, union: Path, name: str, error: str
) -> None:
    with pytest.raises(CnctlError, match=error) as caught:
        open_control(get_condition(name), loaded_sdxl_base, weights=str(union))
    assert caught.value.hint


def test_generates_otherwise_for_another_kind(
    random_sdxl_base: Path, union: Path, tmp_path: Path
) -> None:
    pixels = np.full((64, 64, 3), 40, np.uint8)
    pixels[20:50, 30:60] = (230, 120, 40)
    write_image(tmp_path / "box.png", pixels)
    made = [
        next(
            iter(
                generate(
                    GenerateRequest(
                        controls=[ControlSpec(condition=name)],
                        images=[tmp_path / "box.png"],
                        ready_hint=True,
                        prompt="a cat",
                        weights=[str(union)],
                        base=str(random_sdxl_base),
                        settings={"steps": 2, "guidance_scale": 5.0},
                        out=tmp_path / name,
                    )
                )
            )
        )
        for name in ("canny", "depth")
    ]
    one, other = (np.asarray(Image.open(image.path)) for image in made)
    assert one.shape == other.shape == (64, 64, 3)
    assert not np.array_equal(one, other)


def test_is_not_trained(random_sdxl_base: Path, union: Path, tmp_path: Path) -> None:
    request = TrainRequest(
        condition="canny",
        data="scenes:4",
        base=str(random_sdxl_base),
        init_from=str(union),
        settings={"steps": 1, "batch_size": 1, "resolution": 64},
    )
    with pytest.raises(CnctlError, match="is a ControlNet-Union, which is not trained here"):
        train(request, tmp_path / "run")
