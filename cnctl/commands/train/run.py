"""`cnctl train`: pairs of image and hint to a ControlNet, with checkpoints, previews and a log."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from cnctl.commands.shared.events import Stage, ignore, notes
from cnctl.commands.shared.weights import read_base_defaults
from cnctl.commands.train.events import OnCheck, OnEvent, Started
from cnctl.commands.train.interrupts import stop_on_signals
from cnctl.commands.train.plan import TrainPlan
from cnctl.commands.train.record import read_run
from cnctl.commands.train.request import TrainRequest
from cnctl.commands.train.session import (
    CHECKPOINTS,
    LOG,
    PREVIEWS,
    REPORT,
    TRACKER,
    TrainingRun,
    TrainResult,
)
from cnctl.commands.train.setup import find_condition, prepare
from cnctl.commands.train.threads import same_threads
from cnctl.data import DataReport, check_dataset, open_dataset, take_part
from cnctl.errors import CnctlError, OutputError
from cnctl.hints.detector import Detector, HintReader
from cnctl.images import check_folder
from cnctl.models.network import EXPORTS
from cnctl.plugin import Condition
from cnctl.tensorfiles.paths import check_path
from cnctl.training.accelerator import check_sharding, load_deepspeed
from cnctl.training.checkpoints import LOCK, Checkpoint, lock_folder, newest_checkpoint
from cnctl.training.process_group import ProcessGroup
from cnctl.training.trainer import Training

OURS = {CHECKPOINTS, *EXPORTS, LOCK, LOG, PREVIEWS, REPORT, TRACKER}


def train(
    request: TrainRequest,
    out: str | Path,
    *,
    resume: bool = False,
    on_event: OnEvent = ignore,
) -> TrainResult:
    """Train a ControlNet for a condition; afterwards `out` serves as weights for generate.

    out: a new folder, or with `resume` that of a run to resume; condition, data and base are then
    those that it was started with. SIGINT and SIGTERM save after the current step, and are raised
    again. Where the environment says that several processes train together (torchrun), each of
    them calls this with the same arguments, and the first writes.
    """
    begin = time.monotonic()
    load_deepspeed(request.device)
    with ProcessGroup(request.device) as group:
        # Not kept in a variable: the run refers to the group, which ends here.
        return _train(group, request, Path(out), resume=resume, on_event=on_event).result(
            seconds=time.monotonic() - begin
        )


def _train(
    group: ProcessGroup,
    request: TrainRequest,
    out: Path,
    *,
    resume: bool,
    on_event: OnEvent,
) -> TrainingRun:
    with ExitStack() as stack:
        with group.raise_on_all():
            if group.main:
                _check_out(out, resume=resume)
                stack.enter_context(lock_folder(out))
        with group.raise_on_all():
            checkpoint = _find_checkpoint(out, on_event) if resume else None
            stack.enter_context(_same_threads(checkpoint, on_event))
            setup = prepare(request, checkpoint, on_event=on_event)
            step = checkpoint.step if checkpoint else 0
            check_sharding(setup.settings, setup.base.dtype, step)
            check_folder(out)
        training = Training(
            setup.base,
            setup.network,
            setup.examples,
            settings=setup.settings,
            cache=setup.cache,
            group=group,
            checkpoint=checkpoint,
        )
        run = TrainingRun(setup, training, out, on_event)
        if checkpoint is not None:
            run.restore(checkpoint.state)
        on_event(Started(setup.plan, training.step))
        with stop_on_signals() as stop:
            run.run(stop)
    return run


def plan_training(
    request: TrainRequest,
    out: str | Path,
    *,
    resume: bool = False,
    on_event: OnEvent = ignore,
) -> TrainPlan:
    """The plan of what `train` would do with the same arguments; nothing is written."""
    out = Path(out)
    _check_out(out, resume=resume)
    checkpoint = _find_checkpoint(out, on_event) if resume else None
    with _same_threads(checkpoint, on_event):
        return prepare(request, checkpoint, dry=True, on_event=on_event).plan


def check_data(
    condition: str | Condition | None,
    data: str | None,
    *,
    columns: str | None = None,
    base: str | None = None,
    resolution: int | None = None,
    largest: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    on_event: OnCheck = ignore,
) -> DataReport:
    """Read every example as training would, or those of a part; nothing is trained.

    largest, sample and seed are those of `cnctl.data.take_part`.
    """
    known = find_condition(condition)
    if data is None:
        raise CnctlError("no data is named", hint="give --data FOLDER or --data scenes:2000")
    resolution = resolution or read_base_defaults(base).get("resolution") or known.train.resolution
    whole = open_dataset(
        data,
        columns=columns,
        read_hint=HintReader(known),
        size=resolution,
        note=notes(on_event),
    )
    dataset = take_part(whole, largest=largest, sample=sample, seed=seed)
    return check_dataset(
        dataset,
        detect=Detector(known),
        resolution=resolution,
        on_example=lambda done: on_event(Stage("checking", done, len(dataset), "examples")),
    )


def _find_checkpoint(out: Path, on_event: OnEvent) -> Checkpoint | None:
    return newest_checkpoint(out / CHECKPOINTS, note=notes(on_event))


def _same_threads(checkpoint: Checkpoint | None, on_event: OnEvent) -> AbstractContextManager[None]:
    return same_threads(read_run(checkpoint) if checkpoint else None, note=notes(on_event))


def _check_out(out: Path, *, resume: bool) -> None:
    """Refuse a folder with something in it, but for a run that is to be resumed."""
    check_path(out, error=OutputError)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is not a folder", hint="choose another -o")
    names = set(os.listdir(out)) - {LOCK} if out.exists() else set()
    if resume and names and not names & OURS:
        raise OutputError(f"{out} holds no training run", hint="choose another -o")
    if names and not resume:
        started = bool(names & OURS)
        hint = "--resume resumes it, or choose another -o" if started else "choose another -o"
        what = "holds a training run" if started else "is not empty"
        raise OutputError(f"{out} {what}", hint=hint)
