"""cnctl train"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnctl.cli import flags
from cnctl.cli.report import Advance, complete_condition, emit, emit_json, note, progress, silence
from cnctl.errors import SomeInputsFailed

if TYPE_CHECKING:
    from cnctl.jobs.train import Event, TrainRequest, TrainResult


Condition = Annotated[
    str | None,
    typer.Option(
        "--cond",
        metavar="NAME",
        help="Condition; cnctl conditions lists them.",
        autocompletion=complete_condition,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|scenes:N",
        help="Folder with metadata.jsonl or prompt.json, or N drawn scenes.",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")]
Steps = Annotated[int | None, typer.Option(help="Optimizer steps. [by base]")]
BatchSize = Annotated[int | None, typer.Option(help="Examples per step. [by base]")]
LearningRate = Annotated[
    float | None, typer.Option(help="Of AdamW. [paper: 1e-5; tiny has its own]")
]
GradientAccumulation = Annotated[
    int | None, typer.Option(help="Batches per step, their gradients averaged. [1]")
]
LrWarmup = Annotated[int | None, typer.Option(help="Steps in which the learning rate rises. [0]")]
LrSchedule = Annotated[
    str | None,
    typer.Option(metavar="constant|cosine", help="Of the learning rate after that. [constant]"),
]
MaxGradNorm = Annotated[
    float | None, typer.Option(help="Clip the gradient to this norm. [0, never; or by base]")
]
Ema = Annotated[
    float | None,
    typer.Option(metavar="DECAY", help="Show and export averaged weights. [0, none; or by base]"),
]
SnrGamma = Annotated[
    float | None, typer.Option(help="Min-SNR weighting of the loss. [0, none; tiny: 5]")
]
PromptDropout = Annotated[
    float | None, typer.Option(help="Share of prompts left empty. [paper: 0.5]")
]
Resolution = Annotated[
    int | None, typer.Option(help="Side in pixels; images are cut to a square. [by base]")
]
Seed = Annotated[int | None, typer.Option(help="Of all that is random. [0]")]
Connect = Annotated[str | None, typer.Option(metavar="all|middle", help="Links to the base. [all]")]
HintEncoder = Annotated[
    str | None, typer.Option(metavar="released|paper", help="Form of the hint encoder. [released]")
]
HintStart = Annotated[
    str | None,
    typer.Option(metavar="gaussian|torch", help="What its weights start from. [gaussian]"),
]
InitFrom = Annotated[
    str | None, typer.Option(metavar="WEIGHTS", help="ControlNet to start from. [the base]")
]
CheckpointEvery = Annotated[int | None, typer.Option(help="Steps between checkpoints. [500]")]
PreviewEvery = Annotated[
    int | None, typer.Option(help="Steps between pictures and scores; 0 for none. [100]")
]
HeldOut = Annotated[
    int | None, typer.Option(help="Examples to measure with, not to train on. [16]")
]
Workers = Annotated[int | None, typer.Option(help="Processes that read data. [0]")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the newest checkpoint, if there is one.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and stop.")]
Check = Annotated[bool, typer.Option("--check", help="Look at every example, and stop.")]


def train(
    cond: Condition = None,
    data: Data = None,
    out: Out = Path("run"),
    base: flags.Base = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    gradient_accumulation: GradientAccumulation = None,
    learning_rate: LearningRate = None,
    lr_warmup: LrWarmup = None,
    lr_schedule: LrSchedule = None,
    max_grad_norm: MaxGradNorm = None,
    ema: Ema = None,
    prompt_dropout: PromptDropout = None,
    snr_gamma: SnrGamma = None,
    resolution: Resolution = None,
    seed: Seed = None,
    connect: Connect = None,
    hint_encoder: HintEncoder = None,
    hint_start: HintStart = None,
    init_from: InitFrom = None,
    checkpoint_every: CheckpointEvery = None,
    preview_every: PreviewEvery = None,
    held_out: HeldOut = None,
    workers: Workers = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    check: Check = False,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Train a ControlNet on pairs of image and hint.

    cnctl train --cond canny --data scenes:2000 -o run
    """
    if check:
        return _check(cond, data, base=base, resolution=resolution, json=json, quiet=quiet)
    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "gradient_accumulation": gradient_accumulation,
        "learning_rate": learning_rate,
        "lr_warmup": lr_warmup,
        "lr_schedule": lr_schedule,
        "max_grad_norm": max_grad_norm,
        "ema": ema,
        "prompt_dropout": prompt_dropout,
        "snr_gamma": snr_gamma,
        "resolution": resolution,
        "seed": seed,
        "connect": connect,
        "hint_encoder": hint_encoder,
        "hint_start": hint_start,
        "checkpoint_every": checkpoint_every,
        "preview_every": preview_every,
        "held_out": held_out,
        "workers": workers,
    }
    note("loading ...", quiet=quiet)
    from cnctl.jobs.train import TrainRequest

    request = TrainRequest(
        condition=cond,
        data=data,
        base=base,
        init_from=init_from,
        settings=settings,
        device=device,
        dtype=dtype,
    )
    run = _plan if dry_run else _train
    run(request, out, resume=resume, json=json, quiet=quiet)


def _train(request: TrainRequest, out: Path, *, resume: bool, json: bool, quiet: bool) -> None:
    from cnctl.jobs.train import train as run

    with ExitStack() as stack:
        display = _Display(stack, quiet)
        say = partial(note, quiet=quiet)
        result = run(request, out, resume=resume, note=say, on_event=display)
    if json:
        emit_json(result.as_dict())
    else:
        _summarize(result, out, quiet=quiet)
        emit([result.controlnet])


def _plan(request: TrainRequest, out: Path, *, resume: bool, json: bool, quiet: bool) -> None:
    from cnctl.jobs.train import plan_training

    plan = plan_training(request, out, resume=resume, note=partial(note, quiet=quiet))
    if json:
        emit_json({"plan": plan.as_dict()})
    else:
        emit(plan.lines())


def _check(
    cond: str | None,
    data: str | None,
    *,
    base: str | None,
    resolution: int | None,
    json: bool,
    quiet: bool,
) -> None:
    from cnctl.jobs.train import check_data

    with ExitStack() as stack:
        advances: list[Advance] = []

        def on_example(done: int, total: int) -> None:
            if not advances:
                advances.append(stack.enter_context(progress("checking", total, quiet=quiet)))
            advances[0](done, "")

        report = check_data(cond, data, base=base, resolution=resolution, on_example=on_example)
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


class _Display:
    """What a person sees while a run goes on; opened when the run says how long it is."""

    def __init__(self, stack: ExitStack, quiet: bool) -> None:
        self.stack = stack
        self.quiet = quiet
        self.fidelity = ""
        self.advance: Advance = silence

    def __call__(self, event: Event) -> None:
        from cnctl.jobs.train import Previewed, Started

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
        else:
            text = f"loss {event.loss:.4f} {self.fidelity} {event.seconds:.2f} s/step"
            self.advance(event.step, text)


def _summarize(result: TrainResult, out: Path, *, quiet: bool) -> None:
    if result.fidelity_before is not None and result.fidelity_after is not None:
        change = f"{result.fidelity_before:.3f} -> {result.fidelity_after:.3f}"
        note(f"{result.metric} on held-out examples: {change}", quiet=quiet)
    note(
        f"use it: cnctl generate --cond {result.condition} --control {out} photo.jpg -p PROMPT",
        quiet=quiet,
    )
