"""diffusers' schedulers by name, on a base's noise schedule."""

from __future__ import annotations

import difflib
import inspect
import math
from typing import Any

import diffusers
from torch import Tensor

from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base


def build_scheduler(base: Base, name: str) -> Any:
    """A diffusers scheduler on the base's noise schedule, by class name or snake case.

    "ddim", "DDIMScheduler", "euler_ancestral", "unipc", "dpm_solver_multistep", ...
    """
    own = base.process.scheduler
    if name == base.process.schedulers[0]:
        return type(own).from_config(own.config)
    kind = getattr(diffusers.schedulers, scheduler_class(name))
    parameters = inspect.signature(kind.__init__).parameters
    if not base.process.suits(kind):
        raise CnctlError(
            f"the scheduler {name!r} does not suit {base.name} ({base.family.name})",
            hint=f"use {', '.join(base.process.schedulers[:-1])} or {base.process.schedulers[-1]}",
        )
    # PNDM's warm-up would make more steps than were asked for; Stable Diffusion goes without.
    options = {"skip_prk_steps": True} if "skip_prk_steps" in parameters else {}
    try:
        return kind.from_config(own.config, **options)
    except ImportError as error:
        raise MissingError(
            f"the scheduler {name!r} needs a package that is not installed",
            hint=f"use {base.process.schedulers[0]}, which needs none",
        ) from error


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


def set_timesteps(schedule: Any, steps: int, *, last: float, strength: float = 1.0) -> Tensor:
    """The timesteps of so many steps, on the host: the last ones of a schedule that is longer.

    strength: the share of the schedule that runs, as diffusers' pipelines count it. last: the
    noisiest timestep of the base's process.
    """
    trained = schedule.config.num_train_timesteps
    total = math.ceil(steps / strength - 1e-9)
    if steps < 1 or total > trained:
        of = f" at strength {strength:g}, the end of {total}" if strength < 1 else ""
        most = int(trained * strength)
        raise CnctlError(f"{steps} steps{of}", hint=f"this base allows 1 to {most} steps")
    schedule.set_timesteps(total)
    if schedule.timesteps.max() > last:
        raise CnctlError(
            f"{total} steps start outside the base's noise schedule", hint=f"use {steps - 1} steps"
        )
    begin = (total - steps) * schedule.order
    if begin and hasattr(schedule, "set_begin_index"):
        schedule.set_begin_index(begin)
    timesteps = schedule.timesteps[begin:]
    return timesteps.float() if timesteps.is_floating_point() else timesteps
