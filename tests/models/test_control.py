"""Scales and modes of control against the original's numbers and against loops written out."""

import copy
from collections.abc import Collection, Sequence
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from torch import Tensor

from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.families import load_base
from cnctl.models.prompts import encode_prompts
from cnctl.models.text_features import TextFeatures, join
from cnctl.models.unet.branch import predict_noise
from cnctl.models.unet.controlnet import build_controlnet
from cnctl.sampling.denoise import denoise, draw_noise

STEPS = 4
SIZE = {"height": 64, "width": 64}
GUIDANCE = 5.0
FADE = [0.825 ** (8 - i) for i in range(9)]
ONES = (1.0,) * len(FADE)


@pytest.fixture(scope="module")
def hint() -> Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def texts(loaded_random_base: Base) -> dict[str, TextFeatures]:
    prompts = {"text": "a red house", "negative_text": "blurry"}
    return {name: encode_prompts(loaded_random_base, [one]) for name, one in prompts.items()}


def noise(base: Base) -> Tensor:
    return draw_noise(base, [torch.Generator().manual_seed(3)], **SIZE)


def ours(base: Base, control: Control, texts: dict[str, TextFeatures]) -> Tensor:
    return denoise(base, [control], noise(base), **texts, steps=STEPS, guidance_scale=GUIDANCE)


@torch.no_grad()
def written_out(
    base: Base,
    controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
    *,
    scales: Sequence[float] = ONES,
    both_halves: bool = True,
    start: Tensor | None = None,
    steps: int = STEPS,
    runs: Collection[int] = range(99),
    guided: Collection[int] = range(99),
) -> Tensor:
    """The original's loop: two passes per step, each residual multiplied by its own scale.

    runs: the steps in which the ControlNet runs; in others, what it gave last is added. guided: the
    steps with guidance.
    """
    scheduler = type(base.process.scheduler).from_config(base.process.scheduler.config)
    scheduler.set_timesteps(steps)
    latents, last = noise(base) if start is None else start, {}
    for step, timestep in enumerate(scheduler.timesteps):
        halves = {}
        for name, text in texts.items():
            control: dict[str, Any] = {}
            if step in runs:
                last[name] = _residuals(controlnet, latents, timestep, text.tokens, hint)
            if both_halves or name == "text":
                *down, middle = (r * scale for r, scale in zip(last[name], scales, strict=True))
                control = {
                    "down_block_additional_residuals": down,
                    "mid_block_additional_residual": middle,
                }
            halves[name] = base.denoiser(latents, timestep, text.tokens, **control).sample
        without, predicted = halves["negative_text"], halves["text"]
        if step in guided:
            predicted = without + GUIDANCE * (predicted - without)
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    return latents


def _residuals(controlnet: ControlNetModel, *given: Tensor) -> list[Tensor]:
    down, middle = controlnet(*given, return_dict=False)
    return [*down, middle]


def test_fading_has_the_originals_thirteen_numbers(hint: Tensor) -> None:
    controlnet = build_controlnet(load_base("tiny").denoiser)
    original = (
        ".0994 .1205 .1461 .1770 .2146 .2601 .3153 .3822 .4633 .5615 .6806 .8250 1."  # its own list
    )
    for mode in ("prompt", "control"):
        scales = Control(controlnet, hint, mode=mode).scales_at(0, STEPS)
        assert scales == pytest.approx([float(number) for number in original.split()], abs=5e-5)


@pytest.mark.parametrize(("mode", "both_halves"), [("prompt", True), ("control", False)])
def test_modes_equal_the_originals_loop(
    assert_same: Any,
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
    mode: str,
    both_halves: bool,
) -> None:
    scales = [0.7 * fade for fade in FADE]
    expected = written_out(
        loaded_random_base, random_controlnet, hint, texts, scales=scales, both_halves=both_halves
    )
    control = Control(random_controlnet, hint, scale=0.7, mode=mode)
    assert_same(ours(loaded_random_base, control, texts), expected)


@pytest.mark.slow
def test_a_branch_that_runs_every_third_step_adds_the_same_between(
    assert_same: Any,
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
) -> None:
    base, ran = loaded_random_base, []
    counted = random_controlnet.register_forward_hook(lambda *_: ran.append(0))
    given = {**texts, "steps": 12, "guidance_scale": GUIDANCE, "control_every": 3}
    made = denoise(base, [Control(random_controlnet, hint)], noise(base), **given)
    counted.remove()
    runs = [0, 1, 2, 3, 4, 7, 10]
    assert len(ran) == len(runs)
    assert_same(made, written_out(base, random_controlnet, hint, texts, steps=12, runs=runs))


def test_steps_outside_the_interval_of_guidance_read_the_prompt_alone(
    assert_same: Any,
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    texts: dict[str, TextFeatures],
) -> None:
    base = loaded_random_base
    hints = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    two = {name: join([text, text]) for name, text in texts.items()}
    start = draw_noise(base, [torch.Generator().manual_seed(seed) for seed in (1, 2)], **SIZE)
    made = denoise(
        base,
        [Control(random_controlnet, hints)],
        start,
        **two,
        steps=STEPS,
        guidance_scale=GUIDANCE,
        guidance_interval=(0.25, 0.75),
    )
    for one, hint, result in zip(start[:, None], hints[:, None], made[:, None], strict=True):
        asked: dict[str, Any] = {"start": one, "guided": [1, 2]}
        assert_same(result, written_out(base, random_controlnet, hint, texts, **asked))


def test_residual_scales_multiply_each_its_own(
    assert_same: Any,
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
) -> None:
    scales = [0.1 * i for i in range(len(FADE))]
    expected = written_out(
        loaded_random_base, random_controlnet, hint, texts, scales=scales, both_halves=True
    )
    control = Control(random_controlnet, hint, residual_scales=scales)
    assert_same(ours(loaded_random_base, control, texts), expected)


def test_step_scales_act_at_their_step_and_nothing_runs_at_zero(
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
    counted: Any,
) -> None:
    with counted(random_controlnet.conv_in) as calls:
        first_half = Control(random_controlnet, hint, step_scales=[0.6, 0.6, 0, 0])
        latents = ours(loaded_random_base, first_half, texts)
    assert calls == [2, 2]
    same = ours(loaded_random_base, Control(random_controlnet, hint, scale=0.6, end=0.5), texts)
    assert torch.equal(latents, same)


def test_control_mode_runs_the_branch_on_half_of_the_batch(
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
    counted: Any,
) -> None:
    with counted(random_controlnet.conv_in) as calls:
        ours(loaded_random_base, Control(random_controlnet, hint, mode="control"), texts)
    assert calls == [1] * STEPS


def test_a_net_that_pools_controls_only_where_the_prompt_is(
    stock: Any,
    assert_same: Any,
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
) -> None:
    """As the original's shuffle does, and diffusers' pipeline for it."""
    pooling = copy.deepcopy(random_controlnet)
    pooling.register_to_config(global_pool_conditions=True)
    expected = stock(
        StableDiffusionControlNetPipeline,
        loaded_random_base,
        pooling,
        prompt_embeds=texts["text"].tokens,
        negative_prompt_embeds=texts["negative_text"].tokens,
        image=hint,
        latents=noise(loaded_random_base),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
    )
    assert_same(ours(loaded_random_base, Control(pooling, hint), texts), expected)


def test_two_controls_on_different_halves_add_up(
    assert_same: Any,
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
) -> None:
    """One step by hand: the half with the prompt has both, the other has one."""
    base, timestep = loaded_random_base, torch.tensor(1)
    both = [
        Control(random_controlnet, hint, scale=0.5),
        Control(random_controlnet, 1 - hint, mode="control"),
    ]
    latents = denoise(base, both, noise(base), **texts, steps=1, guidance_scale=GUIDANCE)
    with torch.no_grad():
        halves = {}
        for name, text in texts.items():
            given = (noise(base), timestep, text)
            residuals = random_controlnet.residuals(base, *given, hint).scaled(0.5)
            if name == "text":
                other = random_controlnet.residuals(base, *given, 1 - hint).scaled(FADE)
                residuals = residuals + other
            halves[name] = predict_noise(base.denoiser, *given, residuals)
    without, with_prompt = halves["negative_text"], halves["text"]
    scheduler = type(base.process.scheduler).from_config(base.process.scheduler.config)
    scheduler.set_timesteps(1)
    predicted = without + GUIDANCE * (with_prompt - without)
    assert_same(latents, scheduler.step(predicted, 1, noise(base)).prev_sample)


def test_a_region_multiplies_each_residual_in_its_place(
    assert_same: Any,
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
) -> None:
    """One step by hand: the mean of the region over what a place of a residual covers."""
    base, timestep = loaded_random_base, torch.tensor(1)
    region = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    control = Control(random_controlnet, hint, region=region)
    latents = denoise(base, [control], noise(base), **texts, steps=1, guidance_scale=GUIDANCE)
    with torch.no_grad():
        halves = {}
        for name, text in texts.items():
            given = (noise(base), timestep, text.tokens)
            *down, middle = (
                residual * _means(region, residual.shape[-1])
                for residual in _residuals(random_controlnet, *given, hint)
            )
            halves[name] = base.denoiser(
                *given,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
    without, with_prompt = halves["negative_text"], halves["text"]
    scheduler = type(base.process.scheduler).from_config(base.process.scheduler.config)
    scheduler.set_timesteps(1)
    predicted = without + GUIDANCE * (with_prompt - without)
    assert_same(latents, scheduler.step(predicted, 1, noise(base)).prev_sample)


def _means(region: Tensor, side: int) -> Tensor:
    block = region.shape[-1] // side
    return region.reshape(1, 1, side, block, side, block).mean((3, 5))


def test_two_regions_share_an_image_and_an_empty_one_runs_nothing(
    assert_same: Any,
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    hint: Tensor,
    texts: dict[str, TextFeatures],
    counted: Any,
) -> None:
    left = torch.zeros(1, 1, 64, 64)
    left[..., :32] = 1
    both = [
        Control(random_controlnet, hint, region=left),
        Control(random_controlnet, hint, region=1 - left),
    ]
    run = {**texts, "steps": 2, "guidance_scale": GUIDANCE}
    shared = denoise(loaded_random_base, both, noise(loaded_random_base), **run)
    whole = [Control(random_controlnet, hint)]
    assert_same(shared, denoise(loaded_random_base, whole, noise(loaded_random_base), **run))
    with counted(random_controlnet.conv_in) as calls:
        nowhere = Control(random_controlnet, hint, region=torch.zeros(1, 1, 64, 64))
        off = denoise(loaded_random_base, [nowhere], noise(loaded_random_base), **run)
    assert calls == []
    assert torch.equal(off, denoise(loaded_random_base, [], noise(loaded_random_base), **run))
