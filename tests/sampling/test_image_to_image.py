"""Image to image and masked diffusion against diffusers' pipelines for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
)
from torch import Tensor

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.latents import decode_latents
from cnctl.models.prompts import encode_prompts
from cnctl.sampling.denoise import denoise, draw_noise, sample
from cnctl.sampling.image_to_image import Edit, encode_edit

SIZE = {"height": 64, "width": 72}
SEEDS = (3, 4)
PROMPTS = ["a red house", "a cat"]


@pytest.fixture(scope="module")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 72, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 64, 72, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    """Along the borders of latents, where diffusers' nearest neighbour and ours agree."""
    mask = np.zeros((2, 64, 72), bool)
    mask[0, 16:48, 24:64] = True
    mask[1, :, :40] = True
    return mask


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


def ours(base: Base, control: Control, edit: Edit, **settings: Any) -> Tensor:
    """Latents in the way of `sample`."""
    own = generators()
    latent_edit = encode_edit(base, edit, own)
    return denoise(
        base,
        [control],
        draw_noise(base, own, **SIZE),
        text=encode_prompts(base, PROMPTS),
        negative_text=encode_prompts(base, ["", "blurry"]),
        generators=own,
        edit=latent_edit,
        guidance_scale=4.0,
        **settings,
    )


@pytest.fixture(scope="module")
def theirs(stock: Any) -> Callable[..., Tensor]:
    """Latents of the same images by a pipeline of diffusers."""

    def run(kind: Any, base: Base, controlnet: ControlNetModel, **arguments: Any) -> Tensor:
        return stock(
            kind,
            base,
            controlnet,
            PROMPTS,
            negative_prompt=["", "blurry"],
            generator=generators(),
            guidance_scale=4.0,
            controlnet_conditioning_scale=1.0,
            **arguments,
        )

    return run


def as_given(images: np.ndarray) -> Tensor:
    """What diffusers' pipelines take: float (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_euler_from_the_middle_equals_diffusers(
    theirs: Any,
    assert_same: Any,
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    images: np.ndarray,
) -> None:
    """3 steps at strength 0.6 are the last of the 5 that diffusers gets."""
    config = loaded_random_base.process.scheduler.config
    expected = theirs(
        StableDiffusionControlNetImg2ImgPipeline,
        loaded_random_base,
        random_controlnet,
        image=as_given(images),
        control_image=hint,
        num_inference_steps=5,
        strength=0.6,
        control_guidance_end=0.7,
        scheduler=EulerDiscreteScheduler.from_config(config),
    )
    latents = ours(
        loaded_random_base,
        Control(random_controlnet, hint, end=0.7),
        Edit(images, strength=0.6),
        steps=3,
        scheduler="euler",
    )
    assert_same(latents, expected)


def test_sample_is_the_same_run(
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    images: np.ndarray,
    mask: np.ndarray,
) -> None:
    control, edit = Control(random_controlnet, hint), Edit(images, mask, 0.6)
    expected = decode_latents(loaded_random_base, ours(loaded_random_base, control, edit, steps=3))
    made = sample(
        loaded_random_base,
        [control],
        PROMPTS,
        negative_prompts=["", "blurry"],
        seeds=SEEDS,
        guidance_scale=4.0,
        steps=3,
        edit=edit,
        **SIZE,
    )
    assert np.array_equal(made, expected)


def test_a_latent_may_change_where_one_of_its_pixels_may(
    loaded_random_base: Base, images: np.ndarray
) -> None:
    thin = np.zeros((1, 64, 72), bool)
    thin[0, 13, 20:40] = True
    encoded = encode_edit(loaded_random_base, Edit(images, thin), generators())
    assert encoded.mask is not None
    changeable = encoded.mask[0, 0] > 0
    expected = torch.zeros(8, 9, dtype=torch.bool)
    expected[1, 2:5] = True
    assert torch.equal(changeable, expected)


def test_steps_is_the_number_that_runs(
    loaded_random_base: Base, images: np.ndarray, counted: Any
) -> None:
    with counted(loaded_random_base.denoiser) as calls:
        sample(
            loaded_random_base,
            [],
            PROMPTS,
            seeds=SEEDS,
            steps=3,
            edit=Edit(images, None, 0.35),
            **SIZE,
        )
    assert calls == [4] * 3


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"strength": 0.0}, "strength 0.0"),
        ({"strength": 1.5}, "strength 1.5"),
        ({"strength": 0.001}, "20 steps at strength 0.001, the end of 20000"),
        ({"images": np.zeros((1, 64, 64, 3), np.uint8)}, r"shape \(1, 64, 64\) to edit 2 image"),
        ({"mask": np.zeros((3, 64, 72), bool)}, r"shape \(3, 64, 72\) to edit 2 image"),
    ],
)
def test_refuses(
    loaded_random_base: Base, images: np.ndarray, edit: dict[str, Any], message: str
) -> None:
    with pytest.raises(CnctlError, match=message):
        sample(
            loaded_random_base,
            [],
            PROMPTS,
            seeds=SEEDS,
            edit=Edit(**{"images": images, **edit}),
            **SIZE,
        )
