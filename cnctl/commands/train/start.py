"""Load a training run and start it, from its beginning or from a checkpoint; or plan it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from cnctl.commands.shared.events import loadings, notes
from cnctl.commands.train.check import check_out
from cnctl.commands.train.events import OnEvent, Started
from cnctl.commands.train.interrupts import stop_on_signals
from cnctl.commands.train.plan import TrainPlan
from cnctl.commands.train.record import read_run
from cnctl.commands.train.request import TrainRequest
from cnctl.commands.train.session import TrainingRun
from cnctl.commands.train.setup import prepare
from cnctl.commands.train.threads import same_threads
from cnctl.images import check_folder
from cnctl.training.accelerator import check_sharding, load_deepspeed
from cnctl.training.checkpoints import Checkpoint, lock_folder, newest_checkpoint
from cnctl.training.process_group import ProcessGroup
from cnctl.training.run_folder import CHECKPOINTS
from cnctl.training.trainer import Training


def run_training(
    request: TrainRequest,
    out: Path,
    *,
    resume: bool,
    on_event: OnEvent,
) -> TrainingRun:
    """The run when it has ended, together with the other processes that the environment names."""
    load_deepspeed(request.device)
    with ProcessGroup(request.device) as group:
        # Not kept in a variable: the run refers to the group, which ends here.
        return _run_in_group(group, request, out, resume=resume, on_event=on_event)


def _run_in_group(
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
                check_out(out, resume=resume)
                stack.enter_context(lock_folder(out))
        with group.raise_on_all(), loadings(on_event):
            checkpoint = _find_checkpoint(out, on_event) if resume else None
            stack.enter_context(_same_threads(checkpoint, on_event))
            setup = prepare(request, checkpoint, on_event=on_event)
            step = checkpoint.step if checkpoint else 0
            check_sharding(
                setup.settings,
                setup.base.dtype,
                step,
                runs_base_layers=setup.network.runs_base_layers,
            )
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


def plan_run(request: TrainRequest, out: Path, *, resume: bool, on_event: OnEvent) -> TrainPlan:
    """The plan of what `run_training` would do with the same arguments; nothing is written."""
    checkpoint = _find_checkpoint(out, on_event) if resume else None
    with _same_threads(checkpoint, on_event):
        return prepare(request, checkpoint, dry=True, on_event=on_event).plan


def _find_checkpoint(out: Path, on_event: OnEvent) -> Checkpoint | None:
    return newest_checkpoint(out / CHECKPOINTS, note=notes(on_event))


def _same_threads(checkpoint: Checkpoint | None, on_event: OnEvent) -> AbstractContextManager[None]:
    return same_threads(read_run(checkpoint) if checkpoint else None, note=notes(on_event))
