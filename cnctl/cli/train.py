"""cnctl train"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnctl.cli import flags
from cnctl.cli.report import Advance, complete_condition, emit, emit_json, note, progress, silence
from cnctl.errors import SomeInputsFailed

if TYPE_CHECKING:
    from cnctl.jobs.train import Event, TrainResult


def train(
    cond: Annotated[
        str | None,
        typer.Option(
            "--cond",
            metavar="NAME",
            help="Condition; cnctl conditions lists them.",
            autocompletion=complete_condition,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|scenes:N",
            help="Folder with metadata.jsonl or prompt.json, or N drawn scenes.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("run"),
    base: flags.Base = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps. [by base]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step. [by base]")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of AdamW. [paper: 1e-5; tiny has its own]")
    ] = None,
    prompt_dropout: Annotated[
        float | None, typer.Option(help="Share of prompts left empty. [paper: 0.5]")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side in pixels; images are cut to a square. [by base]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is random. [0]")] = None,
    connect: Annotated[
        str | None, typer.Option(metavar="all|middle", help="Links to the base. [all]")
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help="ControlNet to start from. [the base]")
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps. [500]")] = None,
    preview_every: Annotated[
        int | None, typer.Option(help="Steps between pictures and scores; 0 for none. [100]")
    ] = None,
    held_out: Annotated[
        int | None, typer.Option(help="Examples to measure with, not to train on. [16]")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read data. [0]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint, if there is one.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, and stop.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Look at every example, and stop.")
    ] = False,
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
    note("loading ...", quiet=quiet)
    from cnctl.jobs.train import plan_training
    from cnctl.jobs.train import train as run

    arguments = {
        "base": base,
        "init_from": init_from,
        "settings": {
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "prompt_dropout": prompt_dropout,
            "resolution": resolution,
            "seed": seed,
            "connect": connect,
            "checkpoint_every": checkpoint_every,
            "preview_every": preview_every,
            "held_out": held_out,
            "workers": workers,
        },
        "resume": resume,
        "device": device,
        "dtype": dtype,
        "note": lambda text: note(text, quiet=quiet),
    }
    if dry_run:
        plan = plan_training(cond, data, out, **arguments)  # type: ignore[arg-type]
        return emit_json({"plan": plan.as_dict()}) if json else emit(plan.lines())
    with ExitStack() as stack:
        result = run(cond, data, out, on_event=_Display(stack, quiet), **arguments)  # type: ignore[arg-type]
    if json:
        emit_json(result.as_dict())
    else:
        _summarize(result, out, quiet=quiet)
        emit([result.controlnet])


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
