"""The denoising loop with control: section 4.1's settings, and no work that has no effect.

The hint is encoded once and not at every step; a control branch does not run at steps where its
scale is zero or which lie outside its interval; classifier-free guidance is one doubled batch
with the control in both halves; timesteps stay on the host, so that no step waits for the device.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import ControlNetModel
from torch import Tensor

from cnctl.core.base import Base, check_same_family, decode_latents, encode_prompts
from cnctl.core.controlnet import (
    EncodedHint,
    Residuals,
    control_residuals,
    encode_hint,
    predict_noise,
)
from cnctl.errors import CnctlError, MissingError

OnStep = Callable[[int], None]
"""on_step(done): called after each step with the number of steps done."""


@dataclass(frozen=True)
class Control:
    """One ControlNet with its hint.

    hint: float (1 or B, hint_channels, H, W) in [0, 1]; an inpainting ControlNet wants -1 where
    the image is masked. scale: one number, or one for each residual: the skips from the top, then
    the middle block. start, end: the part of the steps in which it acts, as fractions.
    """

    controlnet: ControlNetModel
    hint: Tensor
    scale: float | Sequence[float] = 1.0
    start: float = 0.0
    end: float = 1.0

    def acts_at(self, step: int, steps: int) -> bool:
        """Whether it has any effect at this step, counted from 0, of so many."""
        scales = [self.scale] if isinstance(self.scale, int | float) else self.scale
        return any(scales) and step / steps >= self.start and (step + 1) / steps <= self.end


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
    scheduler: str = "ddim",
    on_step: OnStep | None = None,
) -> np.ndarray:
    """Images uint8 (B, height, width, 3) for B prompts under all controls together.

    Image i depends on prompts[i], its hint and seeds[i] alone, whatever else is in the batch.
    guidance_scale 1 is no guidance, and negative prompts have no effect then.
    """
    negative_prompts = [""] * len(prompts) if negative_prompts is None else negative_prompts
    check_request(base, controls, len(prompts), height=height, width=width)
    if not len(prompts) == len(seeds) == len(negative_prompts):
        raise CnctlError("give one seed and one negative prompt for each prompt")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latents = denoise(
        base,
        controls,
        draw_noise(base, generators, height=height, width=width),
        text=encode_prompts(base, prompts),
        negative_text=encode_prompts(base, negative_prompts) if guidance_scale != 1 else None,
        generators=generators,
        steps=steps,
        guidance_scale=guidance_scale,
        scheduler=scheduler,
        on_step=on_step,
    )
    return decode_latents(base, latents)


def check_request(
    base: Base, controls: Sequence[Control], count: int, *, height: int, width: int
) -> None:
    """Raise CnctlError where a size, a hint or a ControlNet does not fit; nothing has run yet."""
    unet, factor = base.unet.config, base.latent_factor
    if unet.in_channels != unet.out_channels:
        raise CnctlError(
            f"{base.name} is made for inpainting and cannot generate from noise alone",
            hint="use the base that it was made from",
        )
    if height % factor or width % factor or min(height, width) < factor:
        raise CnctlError(
            f"{width}x{height} pixels cannot be generated",
            hint=f"width and height must be multiples of {factor}",
        )
    for control in controls:
        check_same_family(control.controlnet.config, unet)
        _check_hint(control, count, height=height, width=width)
        if not 0 <= control.start <= control.end <= 1:
            raise CnctlError(
                f"a control from {control.start} to {control.end} of the steps",
                hint="0 <= start <= end <= 1 must hold",
            )


def draw_noise(
    base: Base, generators: Sequence[torch.Generator], *, height: int, width: int
) -> Tensor:
    """Noise (B, C, h, w), float32: each image's own, drawn on the CPU whatever the device."""
    factor = base.latent_factor
    shape = (base.unet.config.in_channels, height // factor, width // factor)
    noise = [torch.randn(shape, generator=generator) for generator in generators]
    return torch.stack(noise).to(base.device)


@torch.inference_mode()
def denoise(
    base: Base,
    controls: Sequence[Control],
    noise: Tensor,
    *,
    text: Tensor,
    negative_text: Tensor | None = None,
    generators: list[torch.Generator] | None = None,
    steps: int = 20,
    guidance_scale: float = 9.0,
    scheduler: str = "ddim",
    on_step: OnStep | None = None,
) -> Tensor:
    """Noise (B, C, h, w) to latents (B, C, h, w), float32.

    text, negative_text: (B, L, D); without negative_text there is no guidance. generators: one
    per image, for schedulers that add noise at each step.
    """
    schedule = build_scheduler(base, scheduler)
    timesteps = _set_timesteps(schedule, steps)
    on_device = timesteps.to(base.device)
    guided = negative_text is not None
    text = torch.cat([negative_text, text]) if negative_text is not None else text
    branches = [_encoded(control, len(timesteps), guided=guided) for control in controls]
    takes_generator = "generator" in inspect.signature(schedule.step).parameters
    options = {"generator": generators} if takes_generator else {}
    latents = noise * schedule.init_noise_sigma
    for i, timestep in enumerate(timesteps):
        given = schedule.scale_model_input(latents, timestep)
        given = torch.cat([given, given]) if guided else given
        acting = [b for b in branches if b is not None and b[0].acts_at(i, len(timesteps))]
        residuals = _add_up(acting, given, on_device[i], text)
        predicted = predict_noise(base.unet, given, on_device[i], text, residuals).float()
        if guided:
            without, with_prompt = predicted.chunk(2)
            predicted = without + guidance_scale * (with_prompt - without)
        latents = schedule.step(predicted, timestep, latents, **options).prev_sample
        if on_step is not None:
            on_step(round((i + 1) * steps / len(timesteps)))
    return latents


def build_scheduler(base: Base, name: str) -> Any:
    """A diffusers scheduler on the base's noise schedule, by class name or snake case.

    "ddim", "DDIMScheduler", "euler_ancestral", "unipc", "dpm_solver_multistep", ...
    """
    if name == "ddim":
        return type(base.scheduler).from_config(base.scheduler.config)
    kind = getattr(diffusers.schedulers, _scheduler_class(name))
    parameters = inspect.signature(kind.__init__).parameters
    if "beta_start" not in parameters or "noise_sampler_seed" in parameters:
        raise CnctlError(
            f"the scheduler {name!r} does not suit a Stable Diffusion base",
            hint="use ddim, euler, euler_ancestral, unipc or dpm_solver_multistep",
        )
    # PNDM's warm-up would make more steps than were asked for; Stable Diffusion goes without.
    options = {"skip_prk_steps": True} if "skip_prk_steps" in parameters else {}
    try:
        return kind.from_config(base.scheduler.config, **options)
    except ImportError as error:
        raise MissingError(
            f"the scheduler {name!r} needs a package that is not installed",
            hint="use ddim, euler, unipc or dpm_solver_multistep",
        ) from error


def _check_hint(control: Control, count: int, *, height: int, width: int) -> None:
    channels = control.controlnet.config.conditioning_channels
    hint = control.hint
    if hint.ndim != 4 or hint.shape[0] not in (1, count) or hint.shape[1] != channels:
        raise CnctlError(
            f"a hint of shape {tuple(hint.shape)} for {count} image(s)",
            hint=f"this ControlNet reads (1 or {count}, {channels}, height, width)",
        )
    if tuple(hint.shape[2:]) != (height, width):
        raise CnctlError(
            f"the hint has {hint.shape[3]}x{hint.shape[2]} pixels, the image {width}x{height}",
            hint="fit the hint to the image first",
        )
    if not hint.is_floating_point() or hint.max() > 1 or hint.min() < -1:
        raise CnctlError("the hint's values are not in [0, 1]", hint="divide bytes by 255")


def _scheduler_class(name: str) -> str:
    classes = [n for n in dir(diffusers.schedulers) if n.endswith("Scheduler")]
    keys = {n.removesuffix("Scheduler").lower(): n for n in classes}
    key = name.removesuffix("Scheduler").replace("_", "").replace("-", "").lower()
    key = key.removesuffix("scheduler")
    for ending in ("", "discrete", "multistep"):
        if key + ending in keys:
            return keys[key + ending]
    near = difflib.get_close_matches(key, keys, n=1)
    known = "ddim, euler, euler_ancestral, unipc, dpm_solver_multistep and diffusers' others"
    raise CnctlError(
        f"unknown scheduler {name!r}",
        hint=f"did you mean {keys[near[0]]}?" if near else f"there are {known}",
    )


def _set_timesteps(schedule: Any, steps: int) -> Tensor:
    """The timesteps of so many steps, on the host."""
    trained = schedule.config.num_train_timesteps
    if not 1 <= steps <= trained:
        raise CnctlError(f"{steps} steps", hint=f"this base can take 1 to {trained} steps")
    schedule.set_timesteps(steps)
    timesteps = schedule.timesteps
    if timesteps.max() > trained - 1:
        raise CnctlError(
            f"{steps} steps begin beyond the base's noise schedule", hint=f"use {steps - 1} steps"
        )
    return timesteps.float() if timesteps.is_floating_point() else timesteps


def _encoded(control: Control, steps: int, *, guided: bool) -> tuple[Control, EncodedHint] | None:
    """A control with its hint encoded, for both halves of the guidance; None if it never acts."""
    if not any(control.acts_at(i, steps) for i in range(steps)):
        return None
    features = encode_hint(control.controlnet, control.hint).features
    if guided and len(features) > 1:
        features = torch.cat([features, features])
    return control, EncodedHint(features)


def _add_up(
    acting: Sequence[tuple[Control, EncodedHint]], latents: Tensor, timestep: Tensor, text: Tensor
) -> Residuals | None:
    residuals = [
        control_residuals(c.controlnet, latents, timestep, text, hint).scaled(c.scale)
        for c, hint in acting
    ]
    return functools.reduce(operator.add, residuals) if residuals else None
