"""Whether a run that was begun may resume with what is asked now, and what it remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cnctl.commands.train.request import TrainRequest
from cnctl.data import Dataset
from cnctl.data.urls import HIDDEN, is_url, without_credentials
from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.plugin import Condition
from cnctl.settings import TrainSettings
from cnctl.training.checkpoints import Checkpoint
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
SPLIT = {"batch_size", "gradient_accumulation", "num_processes"}
"""May change where their product does not: how a batch is split does not matter."""


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
