"""Whether a run may resume with the present request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cnctl.commands.train.record import RunRecord, condition_name
from cnctl.commands.train.request import TrainRequest
from cnctl.data.urls import HIDDEN, is_url
from cnctl.errors import CnctlError
from cnctl.models.locate import SHORT_NAMES
from cnctl.settings import TrainSettings
from cnctl.settings.declaration import with_current_names

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
"""May change where their product does not: how a batch is split shows in the last bits only."""
COMPUTED = {"channels_last", "compile"}
"""Show in the last bits only, as the split does."""


def complete_request(
    request: TrainRequest, started: RunRecord | None
) -> tuple[TrainRequest, TrainSettings | None]:
    """The request completed by the run to resume, and that run's settings where there is one.

    Raises CnctlError that names what the request says otherwise.
    """
    cache = request.cache and str(Path(request.cache).resolve())
    request = replace(
        request,
        data=_absolute(request.data),
        # A short name is that base's, whatever folder is called the same.
        base=request.base if request.base in SHORT_NAMES else _absolute(request.base),
        init_from=_absolute(request.init_from),
        config=_absolute(request.config),
        cache=cache,
    )
    if started is None:
        return request, None
    given = {name: value for name, value in request.settings.items() if value is not None}
    given = with_current_names(TrainSettings, given)
    settings = _split_again(started.settings, replace(started.settings, **given), given)
    _check_unchanged(request, started, given, settings)
    if request.data is None and is_url(started.data) and HIDDEN in started.data:
        raise CnctlError(
            f"this run reads {started.data}, and credentials are not saved",
            hint="give --data again, with credentials that are valid now",
        )
    names = ("condition", "data", "columns", "base", "init_from", "config", "cache", "quantize")
    complete = {name: getattr(request, name) or getattr(started, name) for name in names}
    return replace(request, **complete), settings


def _check_unchanged(
    request: TrainRequest, started: RunRecord, given: Mapping[str, Any], settings: TrainSettings
) -> None:
    before = started.settings
    same_batch = settings.effective_batch == before.effective_batch
    asked = {
        "condition": condition_name(request.condition),
        "columns": request.columns,
        "base": request.base,
        "init_from": request.init_from,
        "config": request.config,
        "quantize": request.quantize,
        **given,
    }
    names = ("condition", "columns", "base", "init_from", "config", "quantize")
    known = {name: getattr(started, name) for name in names}
    known |= asdict(before)
    changed = [
        f"{name} was {known[name]!r}, not {value!r}"
        for name, value in asked.items()
        if value not in (None, known[name])
        and not _may_change(name, known[name], value, before)
        and not (name in SPLIT and same_batch)
    ]
    if changed:
        raise CnctlError(
            f"this run was started with other settings: {'; '.join(changed)}",
            hint=f"leave them out to resume it ({before.effective_batch} examples a step, however "
            "they are split), or choose another -o",
        )


def _split_again(
    before: TrainSettings, after: TrainSettings, given: Mapping[str, Any]
) -> TrainSettings:
    """The settings with gradient accumulation that keeps the effective batch unless it is given."""
    at_once = after.batch_size * after.num_processes
    if "gradient_accumulation" in given or before.effective_batch % at_once:
        return after
    return replace(after, gradient_accumulation=before.effective_batch // at_once)


def _may_change(name: str, started: object, asked: object, before: TrainSettings) -> bool:
    if name == "steps":
        return before.lr_schedule == "constant"  # else it is part of each step's learning rate
    if name in ("unfreeze", "unfreeze_after"):
        return not before.unfreeze_after
    return name in FREE or (name, started, asked) == ("connect", "middle", "all")


def _absolute(source: str | None) -> str | None:
    """A path, or a glob of shards, as it reads from any folder; other names as they are."""
    if source and not is_url(source) and (Path(source).exists() or source.endswith(".tar")):
        return str(Path(source).resolve())
    return source


def check_data_unchanged(now: RunRecord, started: RunRecord) -> None:
    """Raise CnctlError where the data are not those that the run was started with."""
    hint = "bring them back, or start a new run from its weights with --init-from"
    if now.examples < started.examples:
        raise CnctlError(
            f"examples are missing: {now.data} holds {now.examples} examples, "
            f"this run was started with {started.examples}",
            hint=hint,
        )
    if now.fingerprint != started.fingerprint:
        raise CnctlError(f"data were {started.data!r}; what {now.data!r} holds differs", hint=hint)


def note_changed_bits(now: RunRecord, started: RunRecord, *, note: Callable[[str], None]) -> None:
    """Say what has changed since the start that shows in the last bits of the result."""
    before, after = _decide_bits(started), _decide_bits(now)
    changed = [
        f"{name} {was} -> {after[name]}"
        for name, was in before.items()
        if was != after[name] and was not in ("", 0) and after[name] not in ("", 0)
    ]
    if changed:
        note(
            f"changed since the start: {', '.join(changed)}; the result is equivalent, but not "
            "the same bit for bit"
        )


def _decide_bits(record: RunRecord) -> dict[str, str | int]:
    """What the last bits depend on, by name; "" or 0 where it is unknown or has no effect."""
    threads = record.threads if record.device == "cpu" else 0
    chosen = {name: getattr(record.settings, name) for name in sorted(SPLIT | COMPUTED)}
    return {
        "device": record.device,
        "dtype": record.dtype,
        "torch": record.torch,
        "threads": threads,
        **{name: str(value) for name, value in chosen.items()},
    }
