"""The settings of a run: from the request, the condition and the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from cnctl.commands.generate.outputs import Task
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.prompts import most_clip_skip
from cnctl.models.supported import check_supported
from cnctl.plugin import Condition
from cnctl.settings import GenerateSettings, resolve


def choose_settings(condition: Condition, base: Base, given: Mapping[str, Any]) -> GenerateSettings:
    """The settings of a run, before a sweep changes them."""
    of_base = {"resolution": base.resolution} | dict(base.defaults)
    return resolve(GenerateSettings, of_base, asdict(condition.generate), flags=given)


def settings_of(settings: GenerateSettings, task: Task) -> GenerateSettings:
    """The settings of one task, which a sweep may change."""
    swept = {name: value for name, value in task.variant.items() if name != "prompt"}
    return replace(settings, **swept)


def check_settings(settings: GenerateSettings, base: Base) -> None:
    """Raise CnctlError where this base cannot generate with these settings."""
    check_supported(settings, base)
    if settings.resolution < base.size_multiple:
        raise CnctlError(f"--resolution {settings.resolution} is too small", hint="try 512")
    if settings.guidance_start > settings.guidance_end:
        raise CnctlError(
            f"guidance cannot last from {settings.guidance_start} to {settings.guidance_end}",
            hint="give fractions of the run with 0 <= start <= end <= 1",
        )
    if settings.clip_skip > (most := most_clip_skip(base)):
        if most == 1:
            raise CnctlError(
                f"--clip-skip is not supported on {base.name} ({base.family.name}): it reads one "
                "layer of its text encoders",
                hint="leave out --clip-skip",
            )
        raise CnctlError(
            f"--clip-skip {settings.clip_skip}: {base.name} has layers 1 to {most} to read",
            hint="1 is the usual one, 2 that of many anime bases",
        )
