"""A union as a ControlNet for one kind of hint: as diffusers' own pipeline samples with it."""

from typing import Any

import pytest
import torch
from diffusers import ControlNetUnionModel, StableDiffusionXLControlNetUnionPipeline
from torch import Tensor

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.prompts import encode_prompts
from cnctl.models.unet.union import view_of
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
