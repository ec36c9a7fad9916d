"""Claims of the paper on the embedded base, each over several training seeds.

    python examples/experiments/claims.py NAME [--seeds 3] [--steps 200] [-o OUT]

data-size: figure 22, training sets of 10 to 50,000 scenes. middle: section 3.4, the middle block is
connected alone in the first half. start: equation 3, zero convolutions against Gaussian ones.
dropout: section 3.3, the share of prompts that are left empty. unlock: section 3.4, the decoder is
trained too.

Each arm is trained by `train` and measured by `evaluate` on held-out scenes, with the same hints
and noise for all. Printed are the means over seeds with 95 % t intervals, then the differences from
the first arm, paired by seed. OUT holds the runs, which claims share, and for each claim its table
as JSON and a plot. Repeated, it continues where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from scipy import stats

from cnctl import EvaluateRequest, InitRequest, TrainRequest, evaluate, init_from_base, train
from cnctl.commands.evaluate.intervals import LEVEL, Interval
from cnctl.commands.evaluate.result import Evaluation
from cnctl.commands.shared.report.plots import Curve, Dots, plot
from cnctl.images import read_image
from cnctl.tiny import WEIGHTS
from cnctl.tiny.captioner import SceneCaptioner
from cnctl.tiny.scenes import render_scene
from cnctl.training.checkpoints import newest_checkpoint
from cnctl.training.run_folder import CHECKPOINTS, LOG

Table = Mapping[str, Mapping[str, Sequence[float]]]
"""Measure -> arm -> a value for each seed."""


@dataclass(frozen=True)
class Arm:
    """What differs from one line of a table to the next.

    phases: share of the steps -> settings of `train` until there. start: what makes the weights
    that a run starts from; None for a copy of the base. previews: whether they are made.
    data: "" for `SCENES`.
    """

    name: str
    phases: Mapping[float, Mapping[str, Any]]
    data: str = ""
    start: Callable[[Run], Path] | None = None
    previews: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """One arm with one seed. steps, batch_size, scenes (to measure on): as `main` has them."""

    arm: Arm
    seed: int
    out: Path
    base: str
    steps: int
    batch_size: int
    scenes: int

    @property
    def folder(self) -> Path:
        return self.out / "runs" / f"{self.arm.name.replace(' ', '-')}-{self.seed}"

    def train(self) -> None:
        """Train, or go on, until each phase has ended."""
        saved = newest_checkpoint(self.folder / CHECKPOINTS)
        for share, settings in self.arm.phases.items():
            steps = round(share * self.steps)
            if saved is None or saved.step < steps:
                print(f"{self.folder.name}: to step {steps}", file=sys.stderr, flush=True)
                train(self._request(steps, settings), self.folder, resume=True)

    def _request(self, steps: int, settings: Mapping[str, Any]) -> TrainRequest:
        shared = {
            "steps": steps,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "learning_rate": RATE,
            "held_out": HELD_OUT if self.arm.previews else 0,
            "preview_every": max(self.steps // 8, 1) if self.arm.previews else 0,
            "preview_steps": DENOISING_STEPS,
        }
        return TrainRequest(
            condition="canny",
            data=self.arm.data or SCENES,
            base=self.base,
            init_from=str(self.arm.start(self)) if self.arm.start else None,
            cache=str(self.out / "cache"),
            settings=shared | dict(settings),
        )

    def evaluate(self, folder: str = "evaluation", **changes: Any) -> Evaluation:
        """Outputs from held-out scenes; changes: of the request."""
        settings = {"steps": DENOISING_STEPS, **changes.pop("settings", {})}
        asked = {"data": f"scenes:{self.scenes}", "weights": [str(self.folder)], **changes}
        out = self.folder / folder
        return evaluate(
            EvaluateRequest(
                condition="canny", base=self.base, out=out, resume=True, settings=settings, **asked
            )
        )

    def without_prompt(self) -> Evaluation:
        """Outputs from the same hints, with empty prompts, where guidance would change nothing."""
        hints = str(self.evaluate().folder / "hints")
        hints_alone = {"data": hints, "ready_hint": True, "prompt": ""}
        return self.evaluate("without-prompt", settings={"guidance_scale": 1.0}, **hints_alone)

    def without_control(self) -> Evaluation:
        """Outputs from the same prompts, by the base as the run leaves it."""
        return self.evaluate("without-control", settings={"control_scale": 0.0})

    def before(self) -> Evaluation:
        """Outputs with the weights that the run starts from."""
        start = self.arm.start(self) if self.arm.start else untrained(self)
        return self.evaluate("before", weights=[str(start)])

    def log(self, event: str) -> list[dict[str, Any]]:
        """The entries of this event in the run's log."""
        entries = map(json.loads, (self.folder / LOG).read_text().splitlines())
        return [entry for entry in entries if entry["event"] == event]


def untrained(run: Run, *, gaussian: bool = False) -> Path:
    """A ControlNet before its first step; the zero convolutions are Gaussian if that is asked."""
    target = run.out / "starts" / f"{'gaussian' if gaussian else 'zero'}-{run.seed}"
    if not target.exists():
        init_from_base(InitRequest(base=run.base, target=target, condition="canny", seed=run.seed))
        if gaussian:
            fill_zeros(target / "diffusion_pytorch_model.safetensors", seed=run.seed)
    return target


def fill_zeros(weights: Path, *, seed: int) -> None:
    """Fill layers of zeros with Gaussian weights, which keep the variance of what they read."""
    tensors = load_file(weights)
    generator = torch.Generator().manual_seed(seed)
    for tensor in tensors.values():
        if tensor.ndim > 1 and not tensor.any():
            tensor.normal_(std=tensor[0].numel() ** -0.5, generator=generator)
    save_file(tensors, weights)


def plain(run: Run) -> Path:
    """The plain arm's run with the same seed, trained."""
    first = replace(run, arm=PLAIN)
    first.train()
    return first.folder


def f1(found: Evaluation) -> float:
    """F1 of the hints' edges in the outputs."""
    return found.intervals["fidelity"][found.sets[0].name].mean


def right_class(found: Evaluation) -> float:
    """The share of outputs in which the base's captioner sees the class that the scene shows."""
    titles = {case.id: case.title for case in found.cases}
    return fmean(
        seen_class(picture.path) in shown_classes(titles[picture.case])
        for picture in found.sets[0].pictures
    )


def seen_class(picture: Path) -> str:
    """The caption is "a COLOUR CLASS on ..."."""
    return load_captioner().caption(read_image(picture)).split()[2]


@cache
def load_captioner() -> SceneCaptioner:
    return SceneCaptioner.from_pretrained(WEIGHTS / "captioner")


def shown_classes(title: str) -> set[str]:
    """The title of a case ends with the seed of its scene."""
    return {thing.name for thing in render_scene(int(re.findall(r"\d+", title)[-1])).objects}


def first_loss(run: Run) -> float:
    return run.log("step")[0]["loss"]


def last_loss(run: Run) -> float:
    """The mean training loss of the last quarter of the steps."""
    return fmean(entry["loss"] for entry in run.log("step")[-max(run.steps // 4, 1) :])


def seconds(run: Run) -> float:
    """The median time of a step in the first half."""
    steps = run.log("step")
    return median(entry["seconds"] for entry in steps[: max(len(steps) // 2, 1)])


Measure = Callable[[Run], float]


@dataclass(frozen=True)
class Claim:
    """Arms, of which the first is compared with the others, and what is measured of each.

    The plot shows the first measure, or of arms with previews F1 by step.
    """

    arms: Sequence[Arm]
    measures: Mapping[str, Measure]
    by_step: bool = False


SCENES = "scenes:50000"
RATE = 3e-3
HELD_OUT = 16
"""Examples in previews."""
DENOISING_STEPS = 8
SHORT = 0.3
"""The share of the steps that are added with and without the decoder."""
SLOWLY = {"learning_rate": RATE / 5}
"""As the original advises for an unlocked decoder: 2e-6, not 1e-5."""

PLAIN = Arm("plain", {1.0: {}}, previews=True)
CLAIMS = {
    "start": Claim(
        arms=[
            PLAIN,
            Arm(
                "gaussian links",
                {1.0: {}},
                start=lambda run: untrained(run, gaussian=True),
                previews=True,
            ),
        ],
        measures={
            "F1": lambda run: f1(run.evaluate()),
            "right class": lambda run: right_class(run.evaluate()),
            "right class before the first step": lambda run: right_class(run.before()),
            "loss of the first step": first_loss,
            "loss of the last quarter": last_loss,
        },
        by_step=True,
    ),
    "middle": Claim(
        arms=[
            PLAIN,
            Arm(
                "middle first",
                {0.5: {"connect": "middle"}, 1.0: {"connect": "all"}},
                previews=True,
            ),
        ],
        measures={"F1": lambda run: f1(run.evaluate()), "seconds a step, first half": seconds},
        by_step=True,
    ),
    "dropout": Claim(
        arms=[
            PLAIN,
            *(Arm(f"dropout {share}", {1.0: {"prompt_dropout": share}}) for share in (0, 0.75)),
            Arm("dropout 0.25", {1.0: {"prompt_dropout": 0.25}}),
        ],
        measures={
            "F1 without prompt": lambda run: f1(run.without_prompt()),
            "right class without prompt": lambda run: right_class(run.without_prompt()),
            "F1 with prompt": lambda run: f1(run.evaluate()),
        },
    ),
    "unlock": Claim(
        arms=[
            Arm("locked", {SHORT: SLOWLY}, start=plain),
            Arm("unlocked", {SHORT: SLOWLY | {"unfreeze_after": 1}}, start=plain),
            Arm(
                "unlocked, cats alone",
                {SHORT: SLOWLY | {"unfreeze_after": 1}},
                data="scenes:50000:cat",
                start=plain,
            ),
        ],
        measures={
            "F1": lambda run: f1(run.evaluate()),
            "right class": lambda run: right_class(run.evaluate()),
            "right class without control": lambda run: right_class(run.without_control()),
        },
    ),
    "data-size": Claim(
        arms=[
            PLAIN,
            *(Arm(f"{size} scenes", {1.0: {}}, data=f"scenes:{size}") for size in (10, 100, 1000)),
        ],
        measures={"F1": lambda run: f1(run.evaluate()), "loss of the last quarter": last_loss},
    ),
}


def examine(claim: Claim, runs: Mapping[str, Sequence[Run]]) -> Table:
    """Train what is not trained yet, a seed of all arms after the other, and measure it."""
    for same_seed in zip(*runs.values(), strict=True):
        for run in same_seed:
            run.train()
            for measure in claim.measures.values():
                measure(run)
    return {
        name: {arm: [measure(run) for run in of_arm] for arm, of_arm in runs.items()}
        for name, measure in claim.measures.items()
    }


def interval(values: Sequence[float]) -> Interval:
    """The mean and its t interval; that of one value has no width."""
    if len(values) == 1:
        return Interval(*values, *values, *values)
    mean = fmean(values)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def lines(table: Table) -> Iterator[str]:
    """The table for people: each arm, then what the others have more than the first."""
    for measure, by_arm in table.items():
        first, *others = by_arm
        yield f"{measure:32}{'mean':>10}{f'{LEVEL:.0%} interval':>18}"
        for arm, values in by_arm.items():
            yield f"{arm:32}  {interval(values)}"
        for arm in others:
            pairs = zip(by_arm[first], by_arm[arm], strict=True)
            changes = [after - before for before, after in pairs]
            yield f"{f'{arm} - {first}':32}  {interval(changes)}"


def draw(claim: Claim, runs: Mapping[str, Sequence[Run]], table: Table) -> str:
    """Fidelity of previews by step, or the first measure of each run by arm, as SVG."""
    if claim.by_step:
        return plot({arm: mean_curve(of_arm) for arm, of_arm in runs.items()})
    name, by_arm = next(iter(table.items()))
    return plot({arm: dots(values) for arm, values in by_arm.items()}, x_name=name)


def mean_curve(runs: Sequence[Run]) -> Curve:
    previews = zip(*(run.log("preview") for run in runs), strict=True)
    return [(same[0]["step"], fmean(entry["fidelity"] for entry in same)) for same in previews]


def dots(values: Sequence[float]) -> Dots:
    found = interval(values)
    return Dots(values, (found.low, found.mean, found.high))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=CLAIMS)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/claims"))
    parser.add_argument("--seeds", type=int, default=3, help="from 0 on")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=32, help="to measure on")
    parser.add_argument("--base", default="tiny")
    asked = vars(parser.parse_args())
    name, seeds = asked.pop("name"), asked.pop("seeds")
    claim = CLAIMS[name]
    runs = {
        arm.name: [Run(arm=arm, seed=seed, **asked) for seed in range(seeds)] for arm in claim.arms
    }
    table = examine(claim, runs)
    print(*lines(table), sep="\n")
    (asked["out"] / f"{name}.json").write_text(json.dumps(table, indent=2))
    (asked["out"] / f"{name}.svg").write_text(draw(claim, runs, table))


if __name__ == "__main__":
    main()
