"""A training run in its folder: what it writes there, when, and what it reports."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cnctl.commands.shared.events import Note
from cnctl.commands.train.convergence import find_convergence, growth_on
from cnctl.commands.train.events import BatchGrown, Converged, OnEvent, Previewed
from cnctl.commands.train.interrupts import StopRequest
from cnctl.commands.train.previews import Preview, make_preview
from cnctl.commands.train.report import write_report
from cnctl.commands.train.setup import Setup
from cnctl.commands.train.trackers import Tracker
from cnctl.errors import CnctlError, DeviceError, writing
from cnctl.hints.metrics import find_metric
from cnctl.images import write_image
from cnctl.models.prediction import RECORDED
from cnctl.plugin import Metric
from cnctl.training.checkpoints import newest_checkpoint, save_checkpoint
from cnctl.training.process_group import ProcessGroup
from cnctl.training.run_folder import CHECKPOINTS, LOG, PREVIEWS, REPORT, TRACKER
from cnctl.training.trainer import DivergedError, StepReport, Training
from cnctl.version import __version__


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished run. Fidelities are those of its first and its last preview."""

    controlnet: Path
    condition: str
    steps: int
    metric: str
    missing: str
    """What the condition's detector lacks, "" for nothing; it takes only ready hints then."""
    fidelity_before: float | None
    fidelity_after: float | None
    converged: int | None
    """The step of the sudden convergence, if it was seen."""
    report: Path
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)


@dataclass
class TrainingRun:
    """A training run with its folder: what it writes, and what it reports."""

    setup: Setup
    training: Training
    out: Path
    on_event: OnEvent
    fidelity: dict[str, float] = field(default_factory=dict)
    """Fidelity by step."""
    previewed: int = -1
    """The last step that a preview was made after."""
    converged: int | None = None

    @property
    def group(self) -> ProcessGroup:
        """The processes that run this together; the main one alone writes."""
        return self.training.group

    @property
    def exported(self) -> Path:
        """The weights that the run exports."""
        return self.out / self.setup.network.export_name

    @property
    def metric(self) -> Metric:
        """The metric of fidelity."""
        return find_metric(self.setup.condition.metric)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the log and the scores to what they were at a checkpoint."""
        self.fidelity = dict(state["fidelity"])
        self.previewed = state.get("previewed", self.training.step)
        self.converged = self._find_convergence()
        if self.group.main and (self.out / LOG).exists():
            os.truncate(self.out / LOG, min(state["log_bytes"], (self.out / LOG).stat().st_size))

    def run(self, stop: StopRequest) -> None:
        """Train, preview and save until the last step or a request to stop; then export."""
        chosen = self.setup.settings
        with self.group.raise_on_all():
            name = chosen.tracker if self.group.main else ""
            tracker = Tracker(name, self.out / TRACKER, asdict(chosen))
            if self.training.step == 0 and self.group.main:
                (self.out / LOG).write_text("")
                self._log({"event": "start", **asdict(self.setup.record)})
        try:
            # Before the first step, or what an interrupt has left out.
            enough = self._preview_if_due(stop) or self.group.any(bool(stop))
            if enough:
                self._save()
            for report in () if enough else self.training.run():
                with self.group.raise_on_all():
                    self._log({"event": "step", **asdict(report)})
                    self.on_event(report)
                enough = self._preview_if_due(stop) or self.group.any(bool(stop))
                tracker.log(self._numbers(report), report.step)
                due = _is_due(report.step, chosen.checkpoint_every)
                if due or enough or report.step == chosen.steps:
                    self._save()
                if enough:
                    break
        except (DivergedError, DeviceError) as error:
            raise self._with_what_is_kept(error) from error
        finally:
            tracker.finish()
        self._export()
        with self.group.raise_on_all():
            if self.group.main:
                write_report(self.out / LOG, self.out / PREVIEWS, self.out / REPORT)
        if self.training.step < chosen.steps:
            saved = f"saved after step {self.training.step} of {chosen.steps}; "
            self.on_event(Note(f"{saved}resume with: cnctl train -o {self.out} --resume"))

    def result(self, *, seconds: float) -> TrainResult:
        scores = list(self.fidelity.values())
        return TrainResult(
            controlnet=self.exported,
            condition=self.setup.condition.name,
            steps=self.training.step,
            metric=self.metric.name,
            missing=self.setup.validation.missing,
            fidelity_before=scores[0] if scores else None,
            fidelity_after=scores[-1] if scores else None,
            converged=self.converged,
            report=self.out / REPORT,
            seconds=round(seconds, 1),
        )

    def _preview_if_due(self, stop: StopRequest) -> bool:
        """Make the preview where it is due. Returns whether the run has converged and must end."""
        step, chosen = self.training.step, self.setup.settings
        due = step == chosen.steps or _is_due(step, chosen.preview_every)
        if not due or step == self.previewed:
            return False
        self._preview(stop)
        if not self._has_just_converged():
            return False
        times = growth_on(chosen.on_convergence)
        if times > 1:
            batch = self.training.accumulate_more(times)
            self._log({"event": "growth", "step": step + 1, "batch": batch})
            self.on_event(BatchGrown(step + 1, batch))
        return chosen.on_convergence == "stop"

    def _preview(self, stop: StopRequest) -> None:
        """Write the picture and the score; a request to stop does without."""
        if not self.setup.settings.preview_every:
            return

        def give_up() -> None:
            if stop:
                raise _Stopped

        made = None
        with (
            self.training.averaged() as (base, network),
            self.group.raise_on_all(),
            contextlib.suppress(_Stopped),
        ):
            if self.group.main:
                made = make_preview(base, network, self.setup.validation, on_step=give_up)
                self._show(made)
        seen = self.group.broadcast(made is not None)
        fidelity = self.group.broadcast(made.fidelity if made else None)
        if seen:
            self.previewed = self.training.step
        if fidelity is not None:
            self.fidelity[str(self.training.step)] = fidelity

    def _show(self, made: Preview | None) -> None:
        if made is None:
            return
        step, name = self.training.step, self.metric.name
        path = self.out / PREVIEWS / f"step-{step:08d}.png"
        write_image(path, made.picture, overwrite=True)
        entry = {"event": "preview", "step": step, "metric": name, "fidelity": made.fidelity}
        missing = self.setup.validation.missing
        self._log(entry | ({"missing": missing} if missing else {}))
        self.on_event(Previewed(step, name, made.fidelity, path))

    def _find_convergence(self) -> int | None:
        scores = {int(step): score for step, score in self.fidelity.items()}
        return find_convergence(scores, self.metric)

    def _has_just_converged(self) -> bool:
        """Report convergence where the last preview is the first that shows it; whether it does."""
        if self.converged is not None:
            return False
        self.converged = self._find_convergence()
        if self.converged is None:
            return False
        self._log({"event": "convergence", "step": self.converged})
        self.on_event(Converged(self.converged))
        return True

    def _numbers(self, report: StepReport) -> dict[str, float | None]:
        """Returns the numbers for a tracker."""
        named = {f"train/{k}": v for k, v in asdict(report).items() if k != "step"}
        return named | {f"fidelity/{self.metric.name}": self.fidelity.get(str(report.step))}

    def _save(self) -> None:
        tensors = self.training.tensors()
        with self.group.raise_on_all():
            if not self.group.main:
                return
            state = self.training.state() | {
                "run": self.setup.record.to_json(),
                "fidelity": self.fidelity,
                "previewed": self.previewed,
                "log_bytes": (self.out / LOG).stat().st_size,
            }
            folder = self.out / CHECKPOINTS
            save_checkpoint(folder, self.training.step, tensors=tensors, state=state)

    def _export(self) -> None:
        chosen = self.setup.settings
        description = {
            "condition": self.setup.condition.name,
            "hint_channels": self.setup.condition.hint_channels,
            "base": self.setup.base.name,
            "family": self.setup.base.family.name,
            RECORDED: self.setup.base.process.prediction,
            "version": __version__,
            "examples": self.setup.plan.examples,
            "fidelity": list(self.fidelity.values())[-1:],
            **asdict(chosen),
            "steps": self.training.step,
        }
        with self.training.averaged() as (base, network), self.group.raise_on_all():
            if not self.group.main:
                return
            update = self.training.base_update(base)
            network.save(self.exported, description=description, base_update=update)

    def _log(self, entry: Mapping[str, Any]) -> None:
        if not self.group.main:
            return
        hint = f"free some space, then: cnctl train -o {self.out} --resume"
        with (
            writing(self.out / LOG, hint=hint),
            open(self.out / LOG, "a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(entry) + "\n")

    def _with_what_is_kept(self, error: CnctlError) -> CnctlError:
        kept = newest_checkpoint(self.out / CHECKPOINTS)
        kept_too = f"; the checkpoint of step {kept.step} is kept" if kept else ""
        return type(error)(f"{error}{kept_too}", hint=error.hint)


class _Stopped(Exception):
    """A preview is given up."""


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
