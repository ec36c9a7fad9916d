"""cnctl train"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from cnctl.cli import flags, train_flags
from cnctl.cli.report import Advance, emit, emit_json, note, progress, silence
from cnctl.errors import SomeInputsFailed
from cnctl.settings import TrainSettings
from cnctl.system import processes

if TYPE_CHECKING:
    from cnctl.commands.train.request import TrainRequest
    from cnctl.commands.train.session import Event, TrainResult


def train(
    cond: train_flags.Condition = None,
    data: train_flags.Data = None,
    largest: train_flags.Largest = None,
    sample: train_flags.Sample = None,
    out: train_flags.Out = Path("run"),
    base: flags.Base = None,
    steps: train_flags.Steps = None,
    batch_size: train_flags.BatchSize = None,
    gradient_accumulation: train_flags.GradientAccumulation = None,
    num_processes: train_flags.NumProcesses = None,
    optimizer: train_flags.Optimizer = None,
    learning_rate: train_flags.LearningRate = None,
    lr_warmup: train_flags.LrWarmup = None,
    lr_schedule: train_flags.LrSchedule = None,
    max_grad_norm: train_flags.MaxGradNorm = None,
    ema: train_flags.Ema = None,
    prompt_dropout: train_flags.PromptDropout = None,
    snr_gamma: train_flags.SnrGamma = None,
    resolution: train_flags.Resolution = None,
    buckets: train_flags.Buckets = None,
    random_crop: train_flags.RandomCrop = None,
    flip: train_flags.Flip = None,
    seed: train_flags.Seed = None,
    method: train_flags.Method = None,
    connect: train_flags.Connect = None,
    hint_encoder: train_flags.HintEncoder = None,
    hint_start: train_flags.HintStart = None,
    lora: train_flags.Lora = None,
    unlock_after: train_flags.UnlockAfter = None,
    unlock: train_flags.Unlock = None,
    init_from: train_flags.InitFrom = None,
    checkpoint_every: train_flags.CheckpointEvery = None,
    preview_every: train_flags.PreviewEvery = None,
    on_convergence: train_flags.OnConvergence = None,
    tracker: train_flags.Tracker = None,
    held_out: train_flags.HeldOut = None,
    gradient_checkpointing: train_flags.GradientCheckpointing = None,
    channels_last: train_flags.ChannelsLast = None,
    compile: train_flags.Compile = None,
    cache: train_flags.Cache = None,
    workers: train_flags.Workers = None,
    resume: train_flags.Resume = False,
    dry_run: train_flags.DryRun = False,
    check: train_flags.Check = False,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Train a ControlNet on pairs of image and hint.

    cnctl train --cond canny --data scenes:2000 -o run
    """
    if check:
        part = _Part(largest, sample, seed or 0)
        return _check(cond, data, part, base=base, resolution=resolution, json=json, quiet=quiet)
    together = not dry_run and (num_processes or 1) > 1
    if together and processes.world_size() == 1:
        raise typer.Exit(processes.launch(sys.argv[1:], num_processes or 1))
    processes.follow_the_launcher()
    quiet = quiet or processes.rank() > 0
    note("loading ...", quiet=quiet)
    request = _read_flags(locals())
    run = _plan if dry_run else _train
    run(request, out, resume=resume, json=json, quiet=quiet)


def _read_flags(given: dict[str, Any]) -> TrainRequest:
    """The request that the flags make, by their names; what has no flag is left to its default."""
    from cnctl.commands.train.request import TrainRequest

    if processes.world_size() > 1 or given["num_processes"] is None:
        given["num_processes"] = processes.world_size()
    flagged = {field.name for field in fields(TrainSettings)} & given.keys()
    return TrainRequest(
        condition=given["cond"],
        data=given["data"],
        base=given["base"],
        init_from=given["init_from"],
        settings={name: given[name] for name in flagged},
        cache=None if given["cache"] is None else str(given["cache"]),
        device=given["device"],
        dtype=given["dtype"],
    )


def _train(request: TrainRequest, out: Path, *, resume: bool, json: bool, quiet: bool) -> None:
    from cnctl.commands.train.run import train as run

    with ExitStack() as stack:
        display = _Display(stack, quiet)
        say = partial(note, quiet=quiet)
        result = run(request, out, resume=resume, note=say, on_event=display)
    if processes.rank() > 0:
        return
    if json:
        emit_json(result.as_dict())
    else:
        _summarize(result, out, quiet=quiet)
        emit([result.controlnet])


def _plan(request: TrainRequest, out: Path, *, resume: bool, json: bool, quiet: bool) -> None:
    from cnctl.commands.train.run import plan_training

    plan = plan_training(request, out, resume=resume, note=partial(note, quiet=quiet))
    if json:
        emit_json({"plan": plan.as_dict()})
    else:
        emit(plan.lines())


def _check(
    cond: str | None,
    data: str | None,
    part: _Part,
    *,
    base: str | None,
    resolution: int | None,
    json: bool,
    quiet: bool,
) -> None:
    from cnctl.commands.train.run import check_data

    with ExitStack() as stack:
        advances: list[Advance] = []

        def on_example(done: int, total: int) -> None:
            if not advances:
                advances.append(stack.enter_context(progress("checking", total, quiet=quiet)))
            advances[0](done, "")

        report = check_data(
            cond,
            data,
            base=base,
            resolution=resolution,
            largest=part.largest,
            sample=part.sample,
            seed=part.seed,
            note=partial(note, quiet=quiet),
            on_example=on_example,
        )
    if json:
        emit_json(report.as_dict())
    else:
        emit(report.problems)
        note(report.summary(), quiet=quiet)
    if report.fatal:
        raise SomeInputsFailed(
            f"training would stop at {report.fatal} of {report.examples} examples",
            hint="mend them or take their lines out",
        )


class _Part(NamedTuple):
    """Which examples are meant, as the flags say."""

    largest: int | None
    sample: int | None
    seed: int


class _Display:
    """What a person sees while a run goes on; opened when the run says how long it is."""

    def __init__(self, stack: ExitStack, quiet: bool) -> None:
        self.stack = stack
        self.quiet = quiet
        self.fidelity = ""
        self.advance: Advance = silence

    def __call__(self, event: Event) -> None:
        from cnctl.commands.train.session import Converged, Grown, Previewed, Started

        if isinstance(event, Started):
            for line in event.plan.lines():
                note(line, quiet=self.quiet)
            bar = progress("training", event.plan.settings.steps, quiet=self.quiet)
            self.advance = self.stack.enter_context(bar)
            self.advance(event.step, "first look ..." if event.step == 0 else "")
        elif isinstance(event, Previewed):
            if event.fidelity is not None:
                self.fidelity = f"{event.metric} {event.fidelity:.3f}"
            note(f"step {event.step}: {self.fidelity} {event.path}", quiet=self.quiet)
        elif isinstance(event, Converged):
            note(f"control has set in at step {event.step}", quiet=self.quiet)
        elif isinstance(event, Grown):
            note(f"from step {event.step} on, {event.batch} examples to each", quiet=self.quiet)
        else:
            text = f"loss {event.loss:.4f} {self.fidelity} {event.seconds:.2f} s/step"
            self.advance(event.step, text)


def _summarize(result: TrainResult, out: Path, *, quiet: bool) -> None:
    if result.fidelity_before is not None and result.fidelity_after is not None:
        change = f"{result.fidelity_before:.3f} -> {result.fidelity_after:.3f}"
        note(f"{result.metric} on held-out examples: {change}", quiet=quiet)
    note(f"report: {result.report}", quiet=quiet)
    note(
        f"use it: cnctl generate --cond {result.condition} --control {out} photo.jpg -p PROMPT",
        quiet=quiet,
    )
