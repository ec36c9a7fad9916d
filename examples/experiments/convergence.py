"""Figures 20 and 21 of the paper on an embedded base: sudden convergence, and the ablation.

    python examples/experiments/convergence.py [OUT] [--base tiny-flow] [--against hint-start=zero]

A ControlNet, and by input-concat the whole base, learn Canny edges of drawn scenes with the same
data, seed and settings; or the second arm is a ControlNet with another setting of `cnctl train`.
OUT then holds both runs, sheet.png (scenes that were held out: before convergence, at it, and at
the end) and curves.svg; F1 of the edges is printed. Repeated, it continues where it was stopped.
Exits with 1 where the ControlNet stays below 0.6 or below the second arm.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnctl import TrainRequest, train
from cnctl.commands.shared.report.plots import plot
from cnctl.commands.shared.report.sheets import GAP, arrange, labelled
from cnctl.commands.train.session import LOG, PREVIEWS
from cnctl.images import read_image, write_image
from cnctl.settings import TrainSettings
from cnctl.settings.resolve import parse_setting
from cnctl.training.trainer import StepReport

CONTROLNET = "controlnet"
SIDE = 128
SCENES = 3
"""In the sheet."""
ENOUGH = 0.6


@dataclass(frozen=True)
class Learnt:
    """What a run has shown. fidelity: F1 on held-out scenes, by step."""

    folder: Path
    fidelity: dict[int, float]
    converged: int | None

    @property
    def last(self) -> int:
        """The step of the last preview."""
        return max(self.fidelity)

    def cells(self, step: int, column: int) -> list[np.ndarray]:
        """A column of a preview: 0 holds hints, 1 outputs with their prompts, 2 without."""
        picture = read_image(self.folder / PREVIEWS / f"step-{step:08d}.png")
        across, down = (GAP + (SIDE + GAP) * i for i in (column, 0))
        rows = (down + (SIDE + GAP) * i for i in range(SCENES))
        return [picture[row : row + SIDE, across : across + SIDE] for row in rows]


def learn(
    arm: str, folder: Path, *, base: str, changes: Mapping[str, Any], steps: int, every: int
) -> Learnt:
    """Train, or go on, and read what the run has written down."""
    settings = {"steps": steps, "preview_every": every, "held_out": 32, **changes}
    request = TrainRequest(condition="canny", data="scenes:4000", base=base, settings=settings)

    def tell(event: object) -> None:
        if isinstance(event, StepReport) and event.step % every == 0:
            print(f"{arm}: step {event.step} of {steps}", file=sys.stderr)

    train(request, folder, resume=True, on_event=tell)
    entries = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return Learnt(
        folder,
        {e["step"]: e["fidelity"] for e in entries if e["event"] == "preview"},
        next((e["step"] for e in entries if e["event"] == "convergence"), None),
    )


def draw_sheet(control: Learnt, other: Learnt, name: str) -> np.ndarray:
    """Scenes by row; the hint, then the ControlNet's outputs by step, and the other arm's last."""
    steps = [step for step in sorted(control.fidelity) if step in _moments(control)]
    columns = {"hint": control.cells(0, 0)}
    columns |= {f"step {step}": control.cells(step, 1) for step in steps}
    columns[f"{name}, {other.last}"] = other.cells(other.last, 1)
    *rows, last = zip(*columns.values(), strict=True)
    named = labelled([*zip(last, columns, strict=True)])
    return np.concatenate([arrange(rows)[:-GAP], arrange([named])])


def _moments(run: Learnt) -> set[int]:
    """The steps that tell the story: first, last before convergence, convergence, last."""
    if run.converged is None:
        return {0, run.last}
    before = max(step for step in run.fidelity if step < run.converged)
    return {0, before, run.converged, run.last}


def draw_curves(runs: Mapping[str, Learnt]) -> str:
    """F1 by step, as SVG, with the steps of convergence."""
    curves = {
        f"{arm}, {run.fidelity[run.last]:.3f}": sorted(run.fidelity.items())
        for arm, run in runs.items()
    }
    marks = {
        f"{arm} converged, {run.converged}": run.converged
        for arm, run in runs.items()
        if run.converged
    }
    return plot(curves, marks=marks)


def print_table(runs: Mapping[str, Learnt]) -> None:
    print(f"{'step':>9}", *(f"{arm:>14}" for arm in runs))
    for step in sorted(runs[CONTROLNET].fidelity):
        print(f"{step:>9}", *(f"{run.fidelity[step]:>14.3f}" for run in runs.values()))
    print("converged", *(f"{run.converged or 'not yet':>14}" for run in runs.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path("out/convergence"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--every", type=int, default=25, help="steps between previews")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--against", default="method=input-concat", metavar="SETTING=VALUE")
    asked = parser.parse_args()
    setting, equals, value = asked.against.partition("=")
    if not equals or value == CONTROLNET:
        parser.error("--against takes another setting of cnctl train, such as hint-start=zero")
    name = setting.replace("-", "_")
    arms = {CONTROLNET: {}, value: {name: parse_setting(TrainSettings, name, value)}}
    how = {"base": asked.base, "steps": asked.steps, "every": asked.every}
    runs = {arm: learn(arm, asked.out / arm, changes=arms[arm], **how) for arm in arms}
    print_table(runs)
    control, other = runs.values()
    write_image(asked.out / "sheet.png", draw_sheet(control, other, value), overwrite=True)
    (asked.out / "curves.svg").write_text(draw_curves(runs))
    reached = control.fidelity[control.last]
    if reached < max(ENOUGH, other.fidelity[other.last]):
        sys.exit(f"the ControlNet has reached {reached:.3f} only")


if __name__ == "__main__":
    main()
