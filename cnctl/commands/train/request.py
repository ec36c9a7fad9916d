"""What the user asks of a training run, and whether a run that was begun may go on with it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cnctl.commands.train.convergence import ON_CONVERGENCE
from cnctl.commands.train.trackers import check_tracker
from cnctl.data import Dataset
from cnctl.data.urls import HIDDEN, is_url, without_credentials
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.network import CONNECTIONS, METHODS, replaces_base
from cnctl.plugin import Condition
from cnctl.settings import TrainSettings, resolve
from cnctl.training.checkpoints import Checkpoint
from cnctl.training.optimizer import LR_SCHEDULES, OPTIMIZERS
from cnctl.version import __version__

FREE = {
    "checkpoint_every",
    "preview_every",
    "preview_steps",
    "on_convergence",
    "tracker",
    "gradient_checkpointing",
    "channels_last",
    "compile",
    "workers",
}
"""Settings that may change when a run is resumed: they do not change what a step does."""
OF_CONTROLNETS = ("connect", "hint_encoder", "hint_start", "lora", "unlock_after")
"""Settings that mean nothing without one."""
SPLIT = {"batch_size", "gradient_accumulation", "num_processes"}
"""May change where their product does not: how a batch is split does not matter."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What a user asks for. None: not said.

    data: what `cnctl.data.open_dataset` opens. init_from: a ControlNet to start from, else a
    copy of the base. settings: TrainSettings by name, None for the default. cache: a folder,
    made if need be, where encoded images and prompts are kept.
    """

    condition: str | Condition | None = None
    data: str | None = None
    base: str | None = None
    init_from: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    cache: str | None = None
    device: str | None = None
    dtype: str | None = None


def complete_request(
    request: TrainRequest, checkpoint: Checkpoint | None
) -> tuple[TrainRequest, TrainSettings | None]:
    """The request completed by the checkpoint's run, and that run's settings where there is one.

    Raises CnctlError that names what the request says otherwise.
    """
    cache = request.cache and str(Path(request.cache).resolve())
    request = replace(request, data=_full(request.data), base=_full(request.base), cache=cache)
    if checkpoint is None:
        return request, None
    run = checkpoint.state["run"]
    given = {name: value for name, value in request.settings.items() if value is not None}
    asked = {"condition": _name(request.condition), "base": request.base} | given
    before = TrainSettings(**run["settings"])
    after = _split_anew(before, replace(before, **given), given)
    begun = {"condition": run["condition"], "base": run["base"]} | asdict(before)
    changed = [
        f"{name} was {begun[name]!r}, not {value!r}"
        for name, value in asked.items()
        if value not in (None, begun[name])
        and not _may_change(name, begun[name], value, before)
        and not (name in SPLIT and after.effective_batch == before.effective_batch)
    ]
    if changed:
        raise CnctlError(
            f"this run was begun otherwise: {'; '.join(changed)}",
            hint=f"leave them out to go on ({before.effective_batch} examples a step, however "
            "they are split), or choose another -o",
        )
    if request.data is None and is_url(run["data"]) and HIDDEN in run["data"]:
        raise CnctlError(
            f"this run reads {run['data']}, and credentials are not kept with it",
            hint="give --data again, with credentials that are valid now",
        )
    names = ("condition", "data", "base", "cache")
    whole = {name: getattr(request, name) or run.get(name) for name in names}
    return replace(request, **whole), after


def _split_anew(
    before: TrainSettings, after: TrainSettings, given: Mapping[str, Any]
) -> TrainSettings:
    """With as many accumulated batches as make the same examples a step on other processes."""
    at_once = after.batch_size * after.num_processes
    if "gradient_accumulation" in given or before.effective_batch % at_once:
        return after
    return replace(after, gradient_accumulation=before.effective_batch // at_once)


def _name(condition: str | Condition | None) -> str | None:
    return condition.name if isinstance(condition, Condition) else condition


def _may_change(name: str, begun: object, asked: object, before: TrainSettings) -> bool:
    if name == "steps":
        return before.lr_schedule == "constant"  # else it is part of each step's learning rate
    if name in ("unlock", "unlock_after"):
        return not before.unlock_after
    return name in FREE or (name, begun, asked) == ("connect", "middle", "all")


def _full(source: str | None) -> str | None:
    """A path, or a glob of shards, as it reads from any folder; other names as they are."""
    if source and not is_url(source) and (Path(source).exists() or source.endswith(".tar")):
        return str(Path(source).resolve())
    return source


def resolve_settings(condition: Condition, base: Base, flags: Mapping[str, Any]) -> TrainSettings:
    """A new run's settings: what the user says, then the base's, then the condition's."""
    of_base = {"resolution": base.resolution} | dict(base.defaults.get("train", {}))
    return resolve(TrainSettings, of_base, asdict(condition.train), flags=flags)


def check_settings(settings: TrainSettings, base: Base) -> TrainSettings:
    """The settings, or CnctlError that names the one out of range."""
    check_tracker(settings.tracker)
    factor, family = base.latent_factor, base.family
    wrong = {
        "steps": settings.steps < 1 and "at least 1",
        "batch_size": settings.batch_size < 1 and "at least 1",
        "learning_rate": not 0 < settings.learning_rate < 1 and "between 0 and 1",
        "gradient_accumulation": settings.gradient_accumulation < 1 and "at least 1",
        "num_processes": settings.num_processes < 1 and "at least 1",
        "optimizer": settings.optimizer not in OPTIMIZERS and " or ".join(OPTIMIZERS),
        "lr_warmup": not 0 <= settings.lr_warmup <= settings.steps
        and f"from 0 to the number of steps, {settings.steps}",
        "lr_schedule": settings.lr_schedule not in LR_SCHEDULES and "constant or cosine",
        "max_grad_norm": not settings.max_grad_norm >= 0 and "at least 0",
        "ema": not 0 <= settings.ema < 1 and "from 0 to less than 1",
        "prompt_dropout": not 0 <= settings.prompt_dropout <= 1 and "from 0 to 1",
        "snr_gamma": not 0 <= settings.snr_gamma < math.inf and "at least 0",
        "resolution": (settings.resolution < factor or settings.resolution % factor)
        and f"a multiple of {factor}",
        "seed": not 0 <= settings.seed < 2**63 and "from 0 to 2^63 - 1",
        "method": settings.method not in METHODS and " or ".join(METHODS),
        "connect": settings.connect not in CONNECTIONS and "all or middle",
        "hint_encoder": settings.hint_encoder not in family.hint_encoders
        and " or ".join(family.hint_encoders),
        "hint_start": settings.hint_start not in family.hint_starts
        and " or ".join(family.hint_starts),
        "lora": settings.lora < 0 and "at least 1, or 0 for none",
        "unlock_after": settings.unlock_after < 0 and "at least 1, or 0 for never",
        "unlock": settings.unlock not in family.unlocks and " or ".join(family.unlocks),
        "checkpoint_every": settings.checkpoint_every < 1 and "at least 1",
        "preview_every": settings.preview_every < 0 and "at least 1, or 0 for no previews",
        "preview_steps": settings.preview_steps < 1 and "at least 1",
        "on_convergence": not re.fullmatch(ON_CONVERGENCE, settings.on_convergence)
        and "continue, stop, or accumulate=N with N of at least 2",
        "largest": settings.largest < 0 and "at least 1, or 0 for all",
        "sample": settings.sample < 0 and "at least 1, or 0 for all",
        "held_out": settings.held_out < 0 and "at least 0",
        "workers": settings.workers < 0 and "at least 0",
    }
    for name, must in wrong.items():
        if must:
            raise CnctlError(f"{name} is {getattr(settings, name)}; it must be {must}")
    if settings.lora and (settings.unlock_after or settings.hint_encoder != "released"):
        raise CnctlError(
            "a Control-LoRA stands on a locked base and has the released hint encoder",
            hint="leave out --lora, or --unlock-after and --hint-encoder",
        )
    if replaces_base(settings.method):
        _check_without_controlnet(settings)
    return settings


def _check_without_controlnet(settings: TrainSettings) -> None:
    usual = TrainSettings()
    strange = [name for name in OF_CONTROLNETS if getattr(settings, name) != getattr(usual, name)]
    if strange:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise CnctlError(
            f"{settings.method} trains the whole base and no ControlNet, which {flags} is for",
            hint=f"leave out {flags}, or --method",
        )


def describe_run(
    asked: TrainRequest, base: Base, settings: TrainSettings, dataset: Dataset
) -> dict[str, Any]:
    """What a checkpoint remembers, to be resumed by and compared with; no credentials."""
    return {
        "version": __version__,
        "condition": _name(asked.condition),
        "data": asked.data and without_credentials(asked.data),
        "examples": len(dataset),
        "fingerprint": dataset.fingerprint,
        "base": asked.base or ("tiny" if base.name == "tiny" else str(base.path)),
        "init_from": asked.init_from,
        "cache": asked.cache,
        "device": base.device.type,
        "dtype": str(base.dtype).removeprefix("torch."),
        "settings": asdict(settings),
    }


def check_data_unchanged(
    now: Mapping[str, Any], begun: Mapping[str, Any], *, note: Callable[[str], None]
) -> None:
    """Raise CnctlError where the data are not those that the run was begun with."""
    if now["examples"] < begun["examples"]:
        raise CnctlError(
            f"the data have shrunk: {now['data']} holds {now['examples']} examples, "
            f"this run was begun with {begun['examples']}",
            hint="bring them back, or begin a new run from its weights with --init-from",
        )
    if now["fingerprint"] != begun["fingerprint"]:
        raise CnctlError(
            f"data were {begun['data']!r}; what {now['data']!r} holds is not the same",
            hint="bring them back, or begin a new run from its weights with --init-from",
        )
    if (now["device"], now["dtype"]) != (begun["device"], begun["dtype"]):
        note(
            f"begun on {begun['device']} in {begun['dtype']}, resumed on {now['device']} in "
            f"{now['dtype']}: as good as uninterrupted, but not bit for bit"
        )
