"""diffusers' schedulers by name, on a base's noise schedule."""

from __future__ import annotations

import difflib
import inspect
import math
from typing import Any

import diffusers
import torch
from torch import Tensor

from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base


def build_scheduler(base: Base, name: str) -> Any:
    """A diffusers scheduler on the base's noise schedule, by class name or snake case.

    "ddim", "DDIMScheduler", "euler_ancestral", "unipc", "dpm_solver_multistep", ...
    """
    if name == "ddim":
        return type(base.scheduler).from_config(base.scheduler.config)
    kind = getattr(diffusers.schedulers, scheduler_class(name))
    parameters = inspect.signature(kind.__init__).parameters
    if not _suits(kind):
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


def _suits(kind: Any) -> bool:
    """Whether it denoises on a schedule of Stable Diffusion's, a step from nothing but the last."""
    made_of = inspect.signature(kind.__init__).parameters
    if "beta_start" not in made_of or "Inverse" in kind.__name__:
        return False
    if {"noise_sampler_seed", "snr_shift_scale"} & made_of.keys():
        return False  # noise that is not each image's own; CogVideoX's bent schedule
    step = inspect.signature(kind.step).parameters.values()
    needed = [one.name for one in step if one.default is one.empty]
    return needed == ["self", "model_output", "timestep", "sample"]


def scheduler_class(name: str) -> str:
    """What diffusers calls a scheduler; raises CnctlError where there is none."""
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


def set_timesteps(schedule: Any, steps: int, *, strength: float = 1.0) -> Tensor:
    """The timesteps of so many steps, on the host: the last ones of a schedule that is longer.

    strength: the share of the schedule that runs, as diffusers' pipelines count it.
    """
    trained = schedule.config.num_train_timesteps
    total = math.ceil(steps / strength - 1e-9)
    if steps < 1 or total > trained:
        of = f" at strength {strength:g}, the end of {total}" if strength < 1 else ""
        most = int(trained * strength)
        raise CnctlError(f"{steps} steps{of}", hint=f"this base can take 1 to {most} steps")
    schedule.set_timesteps(total)
    if schedule.timesteps.max() > trained - 1:
        raise CnctlError(
            f"{total} steps begin beyond the base's noise schedule", hint=f"use {steps - 1} steps"
        )
    begin = (total - steps) * schedule.order
    if begin and hasattr(schedule, "set_begin_index"):
        schedule.set_begin_index(begin)
    timesteps = schedule.timesteps[begin:]
    return timesteps.float() if timesteps.is_floating_point() else timesteps


def estimate_clean(schedule: Any, given: Tensor, predicted: Tensor, timestep: Tensor) -> Tensor:
    """Latents without noise, (B, C, h, w), as a prediction at this timestep has them.

    given: latents as the U-Net saw them, `scale_model_input`'s, which in every scheduler here are
    sqrt(alpha) times what is clean and sqrt(1 - alpha) times the noise (Song et al., 2021, eq. 4).
    """
    place = timestep.float().clamp(0, len(schedule.alphas_cumprod) - 1)
    low, high = (schedule.alphas_cumprod[int(end)] for end in (place.floor(), place.ceil()))
    alpha = torch.lerp(low.float(), high.float(), place.frac()).to(given.device)
    kept, noisy = alpha.sqrt(), (1 - alpha).sqrt()
    if schedule.config.prediction_type == "v_prediction":
        return kept * given - noisy * predicted
    return (given - noisy * predicted) / kept
