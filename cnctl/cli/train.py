"""cnctl train"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnctl.cli import flags
from cnctl.cli.complete import complete_base, complete_control
from cnctl.cli.declared import Given, declares
from cnctl.cli.page import emit_page
from cnctl.cli.report import Advance, emit, emit_json, note, progress
from cnctl.commands.train.request import TrainRequest
from cnctl.errors import SomeInputsFailed
from cnctl.settings import TrainSettings, resolve
from cnctl.settings.declaration import Flag
from cnctl.system import processes

if TYPE_CHECKING:
    from cnctl.commands.train.events import Event, Stage
    from cnctl.commands.train.session import TrainResult

Out = Annotated[Path, Flag("Folder of the run.", ("--out", "-o"))]
Resume = Annotated[bool, Flag("Resume from the newest checkpoint, if there is one.")]
DryRun = Annotated[bool, Flag("Print what would be trained, and stop.")]
Check = Annotated[bool, Flag("Check every example, and stop.")]


COMPLETE = {
    "base": complete_base,
    "init_from": complete_control,
}
PANELS = {
    "Data": "cond data columns resolution buckets random_crop flip largest sample held_out",
    "Model": "base init_from config method connect hint_encoder hint_start layers lora "
    "unfreeze_after unfreeze",
    "Optimization": "steps batch_size gradient_accumulation learning_rate lr_warmup lr_schedule "
    "optimizer max_grad_norm ema prompt_dropout snr_gamma noise_offset timestep_density "
    "timestep_weights seed",
    "Progress": "preview_every preview_steps checkpoint_every on_convergence tracker",
    "Output": "out resume check dry_run json quiet",
    "Machine": "device dtype quantize num_processes workers cache gradient_checkpointing "
    "channels_last compile",
}


@declares(TrainRequest, TrainSettings, panels=PANELS, complete=COMPLETE)
def train(
    *,
    cond: Annotated[str | None, flags.CONDITION] = None,
    given: Given,
    out: Out = Path("run"),
    resume: Resume = False,
    dry_run: DryRun = False,
    check: Check = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Train a ControlNet on pairs of image and hint.

    cnctl train --cond canny --data scenes:2000 -o run
    """
    asked, settings = given[TrainRequest], given[TrainSettings]
    if check:
        return _check(cond, asked, settings, json=json, quiet=quiet)
    count = resolve(TrainSettings, flags=settings).num_processes
    if count > 1 and not dry_run and processes.world_size() == 1:
        raise typer.Exit(processes.launch(sys.argv[1:], count))
    processes.follow_the_launcher()
    launched = processes.world_size() > 1
    settings["num_processes"] = processes.world_size() if launched else count
    quiet = quiet or processes.rank() > 0
    request = TrainRequest(**asked, condition=cond, settings=settings)
    run = _plan if dry_run else _train
    run(request, out, resume=resume, json=json, quiet=quiet)


def _train(request: TrainRequest, out: Path, *, resume: bool, json: bool, quiet: bool) -> None:
    from cnctl.commands.train.run import train as run

    with ExitStack() as stack:
        display = _Display(stack, quiet)
        result = run(request, out, resume=resume, on_event=display)
    if processes.rank() > 0:
        return
    if json:
        emit_json(result.as_dict())
    else:
        _summarize(result, out, base=request.base, quiet=quiet)
        emit([result.controlnet])


def _plan(request: TrainRequest, out: Path, *, resume: bool, json: bool, quiet: bool) -> None:
    from cnctl.commands.train.run import plan_training

    with ExitStack() as stack:
        plan = plan_training(request, out, resume=resume, on_event=_Display(stack, quiet))
    if json:
        emit_json({"plan": plan.as_dict()})
    else:
        emit_page(plan.lines())


def _check(
    cond: str | None,
    asked: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    json: bool,
    quiet: bool,
) -> None:
    from cnctl.commands.train.run import check_data

    with ExitStack() as stack:
        report = check_data(
            cond,
            asked.get("data"),
            columns=asked.get("columns"),
            base=asked.get("base"),
            resolution=settings.get("resolution"),
            largest=settings.get("largest"),
            sample=settings.get("sample"),
            seed=settings.get("seed", 0),
            on_event=_Display(stack, quiet),
        )
    if json:
        emit_json(report.as_dict())
    else:
        emit(report.problems)
        note(report.summary(), quiet=quiet)
    if report.refused:
        raise SomeInputsFailed(
            "training would not start with these data", hint="fix the problems listed first"
        )
    if report.fatal:
        raise SomeInputsFailed(
            f"training would stop at {report.fatal} of {report.examples} examples",
            hint="fix them or remove their lines",
        )


class _Display:
    """What a person sees during a run or a check; the bar opens with the first count."""

    def __init__(self, stack: ExitStack, quiet: bool) -> None:
        self.stack = stack
        self.quiet = quiet
        self.loss = self.fidelity = self.pace = ""
        self.opened = False
        self.loading = stack.enter_context(ExitStack())
        first = progress("loading", text="PyTorch and diffusers", quiet=quiet, transient=True)
        self.advance: Advance = self.loading.enter_context(first)

    def __call__(self, event: Event | Stage) -> None:
        from cnctl.commands.train import events

        match event:
            case events.Note(text):
                self._note(text)
            case events.Loading() if not self.opened:
                self.advance(event.percent, event.text)
            case events.Started(plan, step):
                self.loading.close()
                for line in plan.lines():
                    self._note(line)
                self._open("training", plan.settings.steps, "steps")
                self.advance(step, "first preview ..." if step == 0 else "")
            case events.Stage(what, done, total, unit):
                self._open(what, total, unit)
                self.advance(done)
            case events.Previewed(step, metric, fidelity, path):
                if fidelity is not None:
                    self.fidelity = f"{metric} {fidelity:.3f}"
                self._note(" ".join(filter(None, [f"step {step}:", self.fidelity, str(path)])))
                self.advance(step, self._numbers())
            case events.Converged(step):
                self._note(f"control has set in at step {step}")
            case events.BatchGrown(step, batch):
                self._note(f"from step {step} on, {batch} examples per step")
            case events.StepReport(step=step, loss=loss, seconds=seconds):
                self.loss, self.pace = f"loss {loss:.4f}", f"{seconds:.2f} s/step"
                self.advance(step, self._numbers())

    def _numbers(self) -> str:
        return " ".join(filter(None, [self.loss, self.fidelity, self.pace]))

    def _note(self, text: str) -> None:
        note(text, quiet=self.quiet)

    def _open(self, label: str, total: int, unit: str) -> None:
        """Show the bar, which stays until the command ends."""
        if not self.opened:
            self.opened = True
            self.loading.close()
            bar = progress(label, total, unit=unit, quiet=self.quiet)
            self.advance = self.stack.enter_context(bar)


def _summarize(result: TrainResult, out: Path, *, base: str | None, quiet: bool) -> None:
    if result.fidelity_before is not None and result.fidelity_after is not None:
        change = f"{result.fidelity_before:.3f} -> {result.fidelity_after:.3f}"
        note(f"{result.metric} on held-out examples: {change}", quiet=quiet)
    note(f"report: {result.report}", quiet=quiet)
    source = "--hint hint.png" if result.missing else "photo.jpg"
    on_base = f" --base {base}" if base else ""
    note(
        f"use it: cnctl generate --cond {result.condition} --control {out}{on_base} {source} "
        "-p PROMPT",
        quiet=quiet,
    )
