"""The settings of a training run: what the user asks, completed and checked for the base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cnctl.commands.train.trackers import check_tracker
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.network import replaces_base
from cnctl.models.quantize import check_library
from cnctl.models.supported import check_supported
from cnctl.plugin import Condition
from cnctl.settings import TrainSettings, resolve
from cnctl.settings.declaration import declarations, out_of_range
from cnctl.training.accelerator import may_shard

OF_CONTROLNETS = ("connect", "hint_encoder", "hint_start", "layers", "lora", "unfreeze_after")
"""Settings that mean nothing without one."""
OF_FRESH_CONTROLNETS = ("hint_encoder", "hint_start", "layers")
"""Settings that another ControlNet to start from has decided."""


def resolve_settings(condition: Condition, base: Base, flags: Mapping[str, Any]) -> TrainSettings:
    """A new run's settings: what the user says, then the base's, then the condition's."""
    of_base = {"resolution": base.resolution, "timestep_density": base.process.densities[0]}
    of_base |= base.defaults.get("train", {})
    return resolve(TrainSettings, of_base, asdict(condition.train), flags=flags)


def check_settings(settings: TrainSettings, base: Base) -> TrainSettings:
    """The settings, or CnctlError that names those that the base or other settings rule out."""
    check_tracker(settings.tracker)
    check_supported(settings, base)
    for name, must in _ruled_out(settings, base):
        raise out_of_range(declarations(TrainSettings)[name].option, getattr(settings, name), must)
    if settings.lora and (settings.unfreeze_after or settings.hint_encoder != "released"):
        raise CnctlError(
            "a Control-LoRA needs a locked base and the released hint encoder",
            hint="leave out --lora, or --unfreeze-after and --hint-encoder",
        )
    if replaces_base(settings.method):
        _check_without_controlnet(settings, base)
    _check_rank(settings, base)
    return settings


def check_locked(form: str, settings: TrainSettings) -> None:
    """Raise MissingError, or CnctlError where a base in this form, see `quantize`, cannot serve."""
    check_library(form)
    if replaces_base(settings.method) or settings.unfreeze_after:
        raise CnctlError(
            "weights of 8 or 4 bits do not learn, and this run trains the base",
            hint="leave out --quantize, or --method and --unfreeze-after",
        )
    if may_shard():
        raise CnctlError(
            "FSDP and DeepSpeed do not shard weights of 8 or 4 bits", hint="leave out --quantize"
        )


def check_start(settings: TrainSettings) -> None:
    """Raise CnctlError for settings that a ControlNet to start from has decided."""
    if strange := _changed(settings, OF_FRESH_CONTROLNETS):
        raise CnctlError(
            f"{strange} is for a ControlNet that starts from the base, and --init-from names "
            "another one",
            hint=f"leave out {strange}, or --init-from",
        )


def _ruled_out(settings: TrainSettings, base: Base) -> Iterator[tuple[str, str]]:
    """The name of each setting that does not fit, and what it must be."""
    family, multiple = base.family, base.size_multiple
    choices = {
        "hint_encoder": family.hint_encoders,
        "hint_start": family.hint_starts,
        "unfreeze": family.unfreezable if _unfreezes(settings) else (),
        "timestep_density": base.process.densities,
        "timestep_weights": base.process.weightings,
    }
    for name, known in choices.items():
        if known and getattr(settings, name) not in known:
            yield name, " or ".join(known)
    if (most := family.most_layers(base)) and settings.layers > most:
        yield "layers", f"at most {most}"
    if settings.lr_warmup > settings.steps:
        yield "lr_warmup", f"at most the number of steps, {settings.steps}"
    if settings.resolution % multiple:
        yield "resolution", f"a multiple of {multiple}"
    if base.largest_side is not None and settings.resolution > base.largest_side:
        yield "resolution", f"at most {base.largest_side}"


def _unfreezes(settings: TrainSettings) -> bool:
    """Whether parts of the base are to learn, or are named."""
    return bool(settings.unfreeze_after) or settings.unfreeze != TrainSettings().unfreeze


def _check_without_controlnet(settings: TrainSettings, base: Base) -> None:
    may = ["lora"] if settings.method in base.family.low_rank else []
    if strange := _changed(settings, [name for name in OF_CONTROLNETS if name not in may]):
        raise CnctlError(
            f"{settings.method} trains the whole base, but {strange} is for a ControlNet",
            hint=f"leave out {strange}, or --method",
        )


def _check_rank(settings: TrainSettings, base: Base) -> None:
    """Raise CnctlError where this family trains nothing but low ranks by this method."""
    low_rank, family = base.family.low_rank, base.family.name
    if replaces_base(settings.method) and settings.method in low_rank and not settings.lora:
        raise CnctlError(
            f"--method {settings.method} on {base.name} ({family}) trains low ranks",
            hint="add --lora RANK; published ones have 64 and 128",
        )


def _changed(settings: TrainSettings, names: Sequence[str]) -> str:
    """The flags of those of these settings that are not at their defaults; "" for none."""
    usual = TrainSettings()
    changed = [name for name in names if getattr(settings, name) != getattr(usual, name)]
    return " and ".join(f"--{name.replace('_', '-')}" for name in changed)
