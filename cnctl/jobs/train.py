"""`cnctl train`: pairs of image and hint to a ControlNet, with checkpoints, previews and a log."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cnctl
from cnctl.core.base import default_base, locate_base, read_defaults
from cnctl.core.checkpoints import LOCK, lock_folder, newest_checkpoint, save_checkpoint
from cnctl.core.training import DivergedError, StepReport, Training
from cnctl.dataset import DataReport, check_dataset, open_dataset
from cnctl.errors import CnctlError, OutputError
from cnctl.fidelity import find_metric
from cnctl.formats import save_controlnet
from cnctl.images import check_folder, write_image
from cnctl.jobs.interrupts import StopRequest, stop_on_signals
from cnctl.jobs.previews import make_preview
from cnctl.jobs.training_setup import (
    HintMaker,
    HintReader,
    Setup,
    TrainPlan,
    TrainRequest,
    find_condition,
    prepare,
)
from cnctl.plugin import Condition
from cnctl.settings import configured_base

CHECKPOINTS = "checkpoints"
CONTROLNET = "controlnet"
LOG = "log.jsonl"
PREVIEWS = "previews"
OURS = {CHECKPOINTS, CONTROLNET, LOG, PREVIEWS, LOCK}


@dataclass(frozen=True)
class Started:
    """The run is about to train from this step."""

    plan: TrainPlan
    step: int


@dataclass(frozen=True)
class Previewed:
    """A preview after this step. fidelity: mean of the condition's metric, None if unknown."""

    step: int
    metric: str
    fidelity: float | None
    path: Path


Event = Started | StepReport | Previewed


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished run. Fidelities are those of its first and its last preview."""

    controlnet: Path
    condition: str
    steps: int
    metric: str
    fidelity_before: float | None
    fidelity_after: float | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def train(
    request: TrainRequest,
    out: str | Path,
    *,
    resume: bool = False,
    note: Callable[[str], None] = lambda text: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> TrainResult:
    """Train a ControlNet for a condition; afterwards `out` serves as weights for generate.

    out: a new folder, or with `resume` one to go on with; condition, data and base are then those
    that it was begun with. SIGINT and SIGTERM save after the step at hand, and are raised again.
    """
    begin = time.monotonic()
    out = Path(out)
    _check_out(out, resume=resume)
    with lock_folder(out):
        checkpoint = newest_checkpoint(out / CHECKPOINTS, note=note) if resume else None
        setup = prepare(request, checkpoint, note=note)
        check_folder(out)
        training = Training(
            setup.base,
            setup.controlnet,
            setup.examples,
            settings=setup.settings,
            cache=setup.cache,
        )
        run = _Run(setup, training, out, note, on_event)
        if checkpoint is not None:
            training.restore(checkpoint)
            run.remember(checkpoint.state)
        on_event(Started(setup.plan, training.step))
        with stop_on_signals() as stop:
            run.to_the_end(stop)
    return run.result(seconds=time.monotonic() - begin)


def plan_training(
    request: TrainRequest,
    out: str | Path,
    *,
    resume: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> TrainPlan:
    """What `train` would do with the same arguments; nothing is written."""
    out = Path(out)
    _check_out(out, resume=resume)
    checkpoint = newest_checkpoint(out / CHECKPOINTS, note=note) if resume else None
    return prepare(request, checkpoint, note=note).plan


def check_data(
    condition: str | Condition | None,
    data: str | None,
    *,
    base: str | None = None,
    resolution: int | None = None,
    on_example: Callable[[int, int], None] = lambda done, total: None,
) -> DataReport:
    """Read every example as training would; nothing is trained. on_example(done, total)."""
    known = find_condition(condition)
    if data is None:
        raise CnctlError("no data is named", hint="give --data FOLDER or --data scenes:2000")
    resolution = resolution or _resolution(base) or known.train.resolution
    dataset = open_dataset(data, read_hint=HintReader(known), size=resolution)
    return check_dataset(
        dataset,
        detect=HintMaker(known, "cpu"),
        resolution=resolution,
        on_example=lambda done: on_example(done, len(dataset)),
    )


@dataclass
class _Run:
    """A training run with its folder: what it writes, and what it tells."""

    setup: Setup
    training: Training
    out: Path
    note: Callable[[str], None]
    on_event: Callable[[Event], None]
    fidelity: dict[str, float] = field(default_factory=dict)
    """By step."""

    def remember(self, state: Mapping[str, Any]) -> None:
        """Take up the log and the scores where a checkpoint left them."""
        self.fidelity = dict(state["fidelity"])
        if (self.out / LOG).exists():
            os.truncate(self.out / LOG, min(state["log_bytes"], (self.out / LOG).stat().st_size))

    def to_the_end(self, stop: StopRequest) -> None:
        """Train, look and save, until the last step or a request to stop; then export."""
        chosen = self.setup.settings
        if self.training.step == 0:
            (self.out / LOG).write_text("")
            self._log({"event": "start", **self.setup.record})
            self._preview(stop)
        try:
            for report in self.training.run():
                self._log({"event": "step", **asdict(report)})
                self.on_event(report)
                last = report.step == chosen.steps
                if last or _is_due(report.step, chosen.preview_every):
                    self._preview(stop)
                if last or stop or _is_due(report.step, chosen.checkpoint_every):
                    self._save()
                if stop:
                    break
        except DivergedError as error:
            raise self._with_what_is_kept(error) from error
        self._export()
        if stop and self.training.step < chosen.steps:
            self.note(
                f"saved after step {self.training.step} of {chosen.steps}; "
                f"go on with: cnctl train -o {self.out} --resume"
            )

    def result(self, *, seconds: float) -> TrainResult:
        scores = list(self.fidelity.values())
        return TrainResult(
            controlnet=self.out / CONTROLNET,
            condition=self.setup.condition.name,
            steps=self.training.step,
            metric=find_metric(self.setup.condition.metric).name,
            fidelity_before=scores[0] if scores else None,
            fidelity_after=scores[-1] if scores else None,
            seconds=round(seconds, 1),
        )

    def _preview(self, stop: StopRequest) -> None:
        """Write the picture and the score; a request to stop does without."""
        if not self.setup.settings.preview_every:
            return

        def give_up() -> None:
            if stop:
                raise _Stopped

        try:
            with self.training.averaged() as controlnet:
                made = make_preview(self.setup.base, controlnet, self.setup.trial, on_step=give_up)
        except _Stopped:
            return
        if made is None:
            return
        step = self.training.step
        path = self.out / PREVIEWS / f"step-{step:08d}.png"
        write_image(path, made.picture, overwrite=True)
        metric = find_metric(self.setup.condition.metric).name
        if made.fidelity is not None:
            self.fidelity[str(step)] = made.fidelity
        self._log({"event": "preview", "step": step, "metric": metric, "fidelity": made.fidelity})
        self.on_event(Previewed(step, metric, made.fidelity, path))

    def _save(self) -> None:
        state = self.training.state() | {
            "run": dict(self.setup.record),
            "fidelity": self.fidelity,
            "log_bytes": (self.out / LOG).stat().st_size,
        }
        tensors = self.training.tensors()
        save_checkpoint(self.out / CHECKPOINTS, self.training.step, tensors=tensors, state=state)

    def _export(self) -> None:
        chosen = self.setup.settings
        description = {
            "condition": self.setup.condition.name,
            "hint_channels": self.setup.condition.hint_channels,
            "base": self.setup.base.name,
            "family": self.setup.base.family.name,
            "version": cnctl.__version__,
            "examples": self.setup.plan.examples,
            "fidelity": list(self.fidelity.values())[-1:],
            **asdict(chosen),
            "steps": self.training.step,
        }
        with self.training.averaged() as controlnet:
            save_controlnet(
                controlnet,
                self.out / CONTROLNET,
                description=description,
                base_delta=self.training.base_delta(),
            )

    def _log(self, entry: Mapping[str, Any]) -> None:
        try:
            with open(self.out / LOG, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OutputError(
                f"{self.out / LOG} could not be written: {error.strerror}",
                hint=f"free some space, then: cnctl train -o {self.out} --resume",
            ) from error

    def _with_what_is_kept(self, error: DivergedError) -> DivergedError:
        kept = newest_checkpoint(self.out / CHECKPOINTS)
        told = f"; the checkpoint of step {kept.step} is kept" if kept else ""
        return DivergedError(f"{error}{told}", hint=error.hint)


class _Stopped(Exception):
    """A preview is given up."""


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _check_out(out: Path, *, resume: bool) -> None:
    """Refuse a folder with something in it, but for a run that is to be resumed."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is not a folder", hint="choose another -o")
    names = set(os.listdir(out)) - {LOCK} if out.exists() else set()
    if resume and names and not names & OURS:
        raise OutputError(f"{out} holds no training run", hint="choose another -o")
    if names and not resume:
        begun = bool(names & OURS)
        go_on = "--resume goes on with it, or choose another -o" if begun else "choose another -o"
        what = "holds a training run" if begun else "is not empty"
        raise OutputError(f"{out} {what}", hint=go_on)


def _resolution(base: str | None) -> int | None:
    """What the base was trained on, as far as it says so; its weights are not read."""
    base = base or configured_base()
    location = default_base() if base is None else locate_base(base)
    return read_defaults(location.path).get("resolution")
