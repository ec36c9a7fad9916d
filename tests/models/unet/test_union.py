"""A union is a ControlNet for one kind of hint, which the condition names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetUnionModel, StableDiffusionXLControlNetUnionPipeline
from PIL import Image
from torch import Tensor

from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.shared.weights import open_control
from cnctl.commands.train.run import TrainRequest, train
from cnctl.errors import CnctlError
from cnctl.images import write_image
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.prompts import encode_prompts
from cnctl.models.unet.union import UnionView, view_of
from cnctl.registry import get_condition
from cnctl.sampling.denoise import denoise, draw_noise

SIZE = {"height": 64, "width": 96}
PROMPTS, NEGATIVE = ["a red house", "a cat"], ["ugly", "blurry"]


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (3, 4)]


@pytest.fixture(scope="module")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def ours(base: Base, union: ControlNetUnionModel, kind: int, hint: Tensor, **acts: Any) -> Tensor:
    return denoise(
        base,
        [Control(view_of(union, kind), hint, **acts)],
        draw_noise(base, generators(), **SIZE),
        text=encode_prompts(base, PROMPTS),
        negative_text=encode_prompts(base, NEGATIVE),
        generators=generators(),
        guidance_scale=5.0,
        steps=4,
    )


@pytest.mark.parametrize("kind", [0, 3])
def test_equals_diffusers(
    loaded_sdxl_base: Base,
    sdxl_union: ControlNetUnionModel,
    hint: Tensor,
    stock: Any,
    assert_same: Any,
    kind: int,
) -> None:
    expected = stock(
        StableDiffusionXLControlNetUnionPipeline,
        loaded_sdxl_base,
        sdxl_union,
        PROMPTS,
        negative_prompt=NEGATIVE,
        generator=generators(),
        guidance_scale=5.0,
        num_inference_steps=4,
        control_image=[hint],
        control_mode=[kind],
        controlnet_conditioning_scale=0.7,
        control_guidance_end=0.5,
        **SIZE,
    )
    latents = ours(loaded_sdxl_base, sdxl_union, kind, hint, scale=0.7, end=0.5)
    assert_same(latents, expected)


def test_the_kind_matters_and_each_image_has_its_own_hint(
    loaded_sdxl_base: Base, sdxl_union: ControlNetUnionModel, hint: Tensor, assert_same: Any
) -> None:
    hints = torch.cat([hint, 1 - hint])
    both = ours(loaded_sdxl_base, sdxl_union, 3, hints)
    assert_same(both[:1], ours(loaded_sdxl_base, sdxl_union, 3, hints[:1])[:1])
    assert_same(both[1:], ours(loaded_sdxl_base, sdxl_union, 3, hints[1:])[1:])
    assert (both - ours(loaded_sdxl_base, sdxl_union, 1, hints)).abs().max() > 1e-3


def test_views_share_weights_and_leave_the_union_as_it_is(
    sdxl_union: ControlNetUnionModel,
) -> None:
    one, other = view_of(sdxl_union, 1), view_of(sdxl_union, 2)
    assert (one.control_type, other.control_type) == (1, 2)
    assert one.task_embedding is other.task_embedding is sdxl_union.task_embedding
    assert type(sdxl_union) is ControlNetUnionModel


@pytest.mark.parametrize("kind", [-1, 6])
def test_a_kind_that_it_does_not_know(sdxl_union: ControlNetUnionModel, kind: int) -> None:
    with pytest.raises(CnctlError, match="knows 6 kinds of hint"):
        view_of(sdxl_union, kind)


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


@pytest.mark.slow
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
    with pytest.raises(CnctlError, match="is a ControlNet-Union, which cannot be trained"):
        train(request, tmp_path / "run")
