"""The denoising loop with control: section 4.1's settings, without work that has no effect.

The hint is encoded once and not at every step; a control branch does not run at steps where its
scale is zero or which lie outside its interval; classifier-free guidance is one doubled batch
with the control in both halves; timesteps stay on the host, so that no step waits for the device.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cnctl.errors import CnctlError
from cnctl.models.base import Base, check_size
from cnctl.models.control import Control, ControlRunner, check_control, check_every
from cnctl.models.latents import decode_latents
from cnctl.models.offload import on_device
from cnctl.models.prompts import PLAIN, PromptOptions, count_chunks, encode_prompts
from cnctl.models.text_features import TextFeatures, join, whole_picture
from cnctl.sampling.image_to_image import Edit, LatentEdit, check_edit, encode_edit
from cnctl.sampling.schedulers import build_scheduler, set_timesteps

OnStep = Callable[[int], None]
"""on_step(done): called after each step with the number of steps done."""
OnEstimate = Callable[[int, Tensor], None]
"""on_estimate(done, latents): what the run is heading for after so many steps, (B, C, h, w)."""
OnPreview = Callable[[int, np.ndarray], None]
"""on_preview(done, images): the same, decoded: uint8 (B, H, W, 3)."""


@torch.inference_mode()
def sample(
    base: Base,
    controls: Sequence[Control],
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    height: int,
    width: int,
    negative_prompts: Sequence[str] | None = None,
    steps: int = 20,
    guidance_scale: float = 9.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    distilled_guidance: float | None = None,
    scheduler: str = "ddim",
    control_every: int = 1,
    options: PromptOptions = PLAIN,
    edit: Edit | None = None,
    on_step: OnStep | None = None,
    on_preview: OnPreview | None = None,
    preview_every: int = 1,
) -> np.ndarray:
    """Images uint8 (B, height, width, 3) for B prompts under all controls together.

    Image i depends on prompts[i], its hint and seeds[i] alone, whatever else is in the batch.
    Prompts longer than the text encoder reads are read in chunks, as many for all of the batch.
    guidance_scale 1 turns guidance off; negative prompts then have no effect. guidance_interval:
    the part of the steps that have guidance, as fractions. distilled_guidance: what a base that
    reads a scale of guidance gets; None for its default. control_every: see `ControlRunner`.
    steps is the number that runs, also where an edit starts in the middle of a schedule, which is
    then a longer one.
    on_preview is shown what the run is heading for after each `preview_every` steps but the last;
    it changes nothing.
    """
    negative_prompts = [""] * len(prompts) if negative_prompts is None else negative_prompts
    check_request(base, controls, len(prompts), height=height, width=width, steps=steps)
    for control in controls:
        check_every(control_every, reads_tokens=control.network.reads_tokens)
    if edit is not None:
        check_edit(edit, len(prompts), height=height, width=width)
    if not len(prompts) == len(seeds) == len(negative_prompts):
        raise CnctlError("give one seed and one negative prompt for each prompt")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    # Where both halves of the guidance are one and the same, one is enough.
    differ = list(prompts) != list(negative_prompts) or any(c.conditional_only for c in controls)
    guided = guidance_scale != 1 and differ
    read = [*prompts, *(negative_prompts if guided else ())]
    encode = partial(
        encode_prompts, base, chunks=count_chunks(base, *read, options=options), options=options
    )
    # Before the noise: an image's generator is asked in the order of diffusers' pipelines.
    latent_edit = encode_edit(base, edit, generators) if edit is not None else None
    text = encode(prompts)
    negative_text = encode(negative_prompts) if guided else None
    with on_device(base, base.denoiser, *(control.network for control in controls)):
        latents = denoise(
            base,
            controls,
            draw_noise(base, generators, height=height, width=width),
            text=text,
            negative_text=negative_text,
            generators=generators,
            steps=steps,
            guidance_scale=guidance_scale,
            guidance_interval=guidance_interval,
            distilled_guidance=distilled_guidance,
            scheduler=scheduler,
            control_every=control_every,
            edit=latent_edit,
            on_step=on_step,
            on_estimate=on_preview and _decoded(base, on_preview, preview_every, steps),
        )
    return decode_latents(base, latents)


def check_request(
    base: Base, controls: Sequence[Control], count: int, *, height: int, width: int, steps: int
) -> None:
    """Raise CnctlError where a size, a hint or a ControlNet does not fit; nothing has run yet."""
    check_size(base, height=height, width=width)
    for control in controls:
        control.network.check_fits(base)
        check_control(control, count, height=height, width=width, steps=steps)


def draw_noise(
    base: Base, generators: Sequence[torch.Generator], *, height: int, width: int
) -> Tensor:
    """Noise (B, C, h, w), float32: each image's own, drawn on the CPU whatever the device."""
    shape = base.family.latents.shape(base, height, width)
    noise = [torch.randn(shape, generator=generator) for generator in generators]
    return torch.stack(noise).to(base.device)


@torch.inference_mode()
def denoise(
    base: Base,
    controls: Sequence[Control],
    noise: Tensor,
    *,
    text: TextFeatures,
    negative_text: TextFeatures | None = None,
    generators: list[torch.Generator] | None = None,
    steps: int = 20,
    guidance_scale: float = 9.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    distilled_guidance: float | None = None,
    scheduler: str = "ddim",
    control_every: int = 1,
    edit: LatentEdit | None = None,
    on_step: OnStep | None = None,
    on_estimate: OnEstimate | None = None,
) -> Tensor:
    """Noise (B, C, h, w) to latents (B, C, h, w), float32.

    Without negative_text there is no guidance. guidance_interval: the part of the steps that have
    it, as fractions; the others read `text` alone. generators: one per image, for schedulers that
    add noise at each step. control_every: see `ControlRunner`.
    """
    schedule = build_scheduler(base, scheduler)
    strength = edit.strength if edit else 1.0
    tokens = math.prod(noise.shape[2:]) // base.patch_size**2
    timesteps = set_timesteps(schedule, steps, base.process, strength=strength, tokens=tokens)
    moved = timesteps.to(base.device)
    both = text if negative_text is None else join([negative_text, text])
    height, width = (side * base.latent_factor for side in noise.shape[2:])
    both = both.of_pictures([whole_picture(height, width)] * len(both))
    scale = base.distilled_guidance if distilled_guidance is None else distilled_guidance
    both = both if base.distilled_guidance is None else both.guided_by(scale)
    text = both if negative_text is None else both.second_half()
    guided = [
        negative_text is not None and within for within in _within(guidance_interval, timesteps)
    ]
    runner = ControlRunner(
        base, controls, steps=len(timesteps), guided=any(guided), every=control_every
    )
    takes_generator = "generator" in inspect.signature(schedule.step).parameters
    further = {"generator": generators} if takes_generator else {}
    process, predict = base.process, base.family.predict
    latents = (
        edit.start(process, schedule, noise, timesteps[0])
        if edit
        else process.start(schedule, noise)
    )
    for i, timestep in enumerate(timesteps):
        given = process.network_input(schedule, latents, timestep)
        given, read = (torch.cat([given, given]), both) if guided[i] else (given, text)
        residuals = runner.residuals(i, given, moved[i], read, guided=guided[i])
        predicted = predict(base.denoiser, given, moved[i], read, residuals).float()
        if guided[i]:
            without, with_prompt = predicted.chunk(2)
            predicted = base.family.guide(without, with_prompt, guidance_scale)
        done = round((i + 1) * steps / len(timesteps))
        if on_estimate is not None:
            seen = given.chunk(2)[0] if guided[i] else given
            on_estimate(done, process.estimate_clean(schedule, seen, predicted, timestep))
        latents = schedule.step(predicted, timestep, latents, **further).prev_sample
        if edit is not None:
            latents = edit.keep(process, schedule, latents, noise, timesteps[i + 1 :])
        if on_step is not None:
            on_step(done)
    return latents


def _within(interval: tuple[float, float], timesteps: Tensor) -> list[bool]:
    """Whether each step lies in this part of all steps."""
    (start, end), count = interval, len(timesteps)
    return [start <= i / count and (i + 1) / count <= end for i in range(count)]


def _decoded(base: Base, on_preview: OnPreview, every: int, steps: int) -> OnEstimate:
    """Decode an estimate each `every` steps, but not the last, which is the image itself."""
    last = 0

    def on_estimate(done: int, latents: Tensor) -> None:
        nonlocal last
        # Some schedulers take a step in two halves.
        if done % every == 0 and last < done < steps:
            last = done
            on_preview(done, decode_latents(base, latents))

    return on_estimate
