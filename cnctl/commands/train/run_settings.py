"""The settings of a training run: what is asked, completed and checked for its base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cnctl.commands.train.trackers import check_tracker
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.network import replaces_base
from cnctl.plugin import Condition
from cnctl.settings import TrainSettings, resolve
from cnctl.settings.declaration import declarations, out_of_range

OF_CONTROLNETS = ("connect", "hint_encoder", "hint_start", "lora", "unlock_after")
"""Settings that mean nothing without one."""


def resolve_settings(condition: Condition, base: Base, flags: Mapping[str, Any]) -> TrainSettings:
    """A new run's settings: what the user says, then the base's, then the condition's."""
    of_base = {"resolution": base.resolution} | dict(base.defaults.get("train", {}))
    return resolve(TrainSettings, of_base, asdict(condition.train), flags=flags)


def check_settings(settings: TrainSettings, base: Base) -> TrainSettings:
    """The settings, or CnctlError that names those that the base or other settings rule out."""
    check_tracker(settings.tracker)
    for name, must in _ruled_out(settings, base).items():
        if must:
            option = declarations(TrainSettings)[name].option
            raise out_of_range(option, getattr(settings, name), must)
    if settings.lora and (settings.unlock_after or settings.hint_encoder != "released"):
        raise CnctlError(
            "a Control-LoRA stands on a locked base and has the released hint encoder",
            hint="leave out --lora, or --unlock-after and --hint-encoder",
        )
    if replaces_base(settings.method):
        _check_without_controlnet(settings)
    return settings


def _ruled_out(settings: TrainSettings, base: Base) -> dict[str, str | bool]:
    """What a setting must be, by name, and False where it is."""
    family, factor = base.family, base.latent_factor
    known = {
        "hint_encoder": family.hint_encoders,
        "hint_start": family.hint_starts,
        "unlock": family.unlocks,
    }
    return {
        name: getattr(settings, name) not in choices and " or ".join(choices)
        for name, choices in known.items()
    } | {
        "lr_warmup": settings.lr_warmup > settings.steps
        and f"at most the number of steps, {settings.steps}",
        "resolution": settings.resolution % factor != 0 and f"a multiple of {factor}",
    }


def _check_without_controlnet(settings: TrainSettings) -> None:
    usual = TrainSettings()
    strange = [name for name in OF_CONTROLNETS if getattr(settings, name) != getattr(usual, name)]
    if strange:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise CnctlError(
            f"{settings.method} trains the whole base and no ControlNet, which {flags} is for",
            hint=f"leave out {flags}, or --method",
        )
