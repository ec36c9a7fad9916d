"""diffusers' schedulers by name, on a base's noise schedule."""

from __future__ import annotations

import difflib
import inspect
import math
from typing import Any

import diffusers
from diffusers import LMSDiscreteScheduler
from torch import Tensor

from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base
from cnctl.models.process import Process
from cnctl.sampling.samplers import SPACINGS, class_of_sampler, split_spacing


def build_scheduler(base: Base, name: str) -> Any:
    """A diffusers scheduler on the base's noise schedule.

    name: diffusers' class name, the same in snake case, or the web interfaces' name, each with a
    spacing of SPACINGS behind it where wanted: "ddim", "DDIMScheduler", "euler_ancestral",
    "Euler a", "dpm_solver_multistep_karras", "DPM++ 2M Karras", ...
    """
    own = base.process.scheduler
    if name == base.process.schedulers[0]:
        return type(own).from_config(own.config)
    found = scheduler_class(name)
    kind = KINDS.get(found) or getattr(diffusers.schedulers, found)
    parameters = inspect.signature(kind.__init__).parameters
    if not base.process.suits(kind):
        raise CnctlError(
            f"the scheduler {name!r} does not suit {base.name} ({base.family.name})",
            hint=f"use one of {', '.join(base.process.schedulers)}",
        )
    # PNDM's warm-up would make more steps than were asked for; Stable Diffusion goes without.
    options = {"skip_prk_steps": True} if "skip_prk_steps" in parameters else {}
    if spacing := split_spacing(name)[1]:
        if SPACINGS[spacing] not in parameters:
            raise CnctlError(
                f"the scheduler {name!r}: diffusers has no {spacing} spacing for it",
                hint=f"leave out {spacing!r}, or use euler_{spacing}",
            )
        options[SPACINGS[spacing]] = True
    try:
        return kind.from_config(own.config, **options)
    except ImportError as error:
        raise MissingError(
            f"the scheduler {name!r} needs a package that is not installed",
            hint=f"use {base.process.schedulers[0]}, which needs none",
        ) from error


class LMSScheduler(LMSDiscreteScheduler):
    """LMS whose order is limited by the steps that were done, not by their place in the schedule.

    diffusers' own mixes weights of steps that were not done into a run that begins in the middle
    of its schedule, as image-to-image does, and leaves noise.
    """

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        order: int = 4,
        return_dict: bool = True,
    ) -> Any:
        """As LMSDiscreteScheduler.step."""
        order = min(order, len(self.derivatives) + 1)
        return super().step(model_output, timestep, sample, order, return_dict)


KINDS = {"LMSDiscreteScheduler": LMSScheduler}
"""What takes the place of diffusers' own classes."""


def scheduler_class(name: str) -> str:
    """What diffusers calls a scheduler, whatever its spacing; CnctlError where there is none."""
    name = split_spacing(name)[0]
    if sampler := class_of_sampler(name):
        return f"{sampler}Scheduler"
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


def set_timesteps(
    schedule: Any, steps: int, process: Process, *, tokens: int, strength: float = 1.0
) -> Tensor:
    """The timesteps of so many steps, on the host: the last ones of a schedule that is longer.

    strength: the share of the schedule that runs, as diffusers' pipelines count it. tokens: of the
    image, by which some processes shift their schedules.
    """
    trained = schedule.config.num_train_timesteps
    total = math.ceil(steps / strength - 1e-9)
    if steps < 1 or total > trained:
        of = f" at strength {strength:g}, the end of {total}" if strength < 1 else ""
        most = int(trained * strength)
        raise CnctlError(f"{steps} steps{of}", hint=f"this base allows 1 to {most} steps")
    try:
        schedule.set_timesteps(**process.spacing(schedule, total, tokens=tokens))
    except ValueError as error:  # LCM and TCD run a part of the steps that they were distilled for
        most = schedule.config.get("original_inference_steps")
        raise CnctlError(
            f"{total} steps are too many for this scheduler",
            hint=f"use at most {int(most * strength)} steps" if most else "use fewer steps",
        ) from error
    if schedule.timesteps.max() > process.last_timestep:
        raise CnctlError(
            f"{total} steps start outside the base's noise schedule", hint=f"use {steps - 1} steps"
        )
    begin = (total - steps) * schedule.order
    if begin and hasattr(schedule, "set_begin_index"):
        schedule.set_begin_index(begin)
    timesteps = schedule.timesteps[begin:]
    return timesteps.float() if timesteps.is_floating_point() else timesteps
