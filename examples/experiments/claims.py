"""Claims of the paper on the embedded base, each over several training seeds.

    python -m examples.experiments.claims NAME [--seeds 3] [--steps 60] [--copy canny] [-o OUT]

data-size: figure 22, training sets of 10 to 50,000 scenes. middle: section 3.4, the middle block is
connected alone in the first half. start: equation 3, zero convolutions against Gaussian ones.
dropout: section 3.3, the share of prompts that are left empty. unlock: section 3.4, the decoder is
trained too.

Each arm learns Canny edges by `train` and is measured by `evaluate` on held-out scenes, with the
same hints and noise for all. To obey early, it starts from the copy and the hint encoder of the
base's own ControlNet, with zero convolutions that are zero again; `--copy ""` starts from the base,
as the paper does, and needs about 300 steps of 16. Printed are the means over seeds with 95 %
t intervals, then the differences from the first arm, paired by seed. OUT holds the runs, which
claims share, and for each claim its table as JSON and a plot. Repeated, it continues where it was
stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from scipy import stats

from cnctl.commands.evaluate.intervals import LEVEL, Interval
from cnctl.commands.shared.report.plots import Curve, Dots, plot
from examples.experiments.arms import (
    RATE,
    Arm,
    Run,
    f1,
    first_loss,
    fresh_links,
    last_loss,
    right_class,
    seconds,
)

Measure = Callable[[Run], float]
Table = Mapping[str, Mapping[str, Sequence[float]]]
"""Measure -> arm -> a value for each seed."""


@dataclass(frozen=True)
class Claim:
    """Arms, of which the first is compared with the others, and what is measured of each.

    The plot shows the first measure of each run, or by_step the training loss.
    """

    arms: Sequence[Arm]
    measures: Mapping[str, Measure]
    by_step: bool = False


SHORT = 0.4
"""The share of the steps that are added with and without the decoder."""
SLOWLY = {"learning_rate": RATE / 5}
"""As the original advises for an unlocked decoder: 2e-6, not 1e-5."""

PLAIN = Arm("plain", {1.0: {}})


def plain(run: Run) -> Path:
    """The plain arm's run with the same seed, trained."""
    first = replace(run, arm=PLAIN)
    first.train()
    return first.folder


CLAIMS = {
    "start": Claim(
        arms=[
            PLAIN,
            Arm("gaussian links", {1.0: {}}, start=lambda run: fresh_links(run, gaussian=True)),
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
            Arm("middle first", {0.5: {"connect": "middle"}, 1.0: {"connect": "all"}}),
        ],
        measures={"F1": lambda run: f1(run.evaluate()), "seconds a step, first half": seconds},
        by_step=True,
    ),
    "dropout": Claim(
        arms=[
            PLAIN,
            *(
                Arm(f"dropout {share}", {1.0: {"prompt_dropout": share}})
                for share in (0, 0.25, 0.75)
            ),
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
    """Train what is not trained yet, all arms of a seed before the next seed, and measure it."""
    for same_seed in zip(*runs.values(), strict=True):
        for run in same_seed:
            run.train()
    return {
        name: {arm: [measure(run) for run in of_arm] for arm, of_arm in runs.items()}
        for name, measure in claim.measures.items()
    }


def interval(values: Sequence[float]) -> Interval:
    """The mean and its t interval; for a single value the interval has no width."""
    if len(values) == 1:
        return Interval(*values, *values, *values)
    mean = fmean(values)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def lines(table: Table) -> Iterator[str]:
    """The table for people: each arm, then the differences of the others from the first."""
    for measure, by_arm in table.items():
        first, *others = by_arm
        yield f"{measure:36}{'mean':>10}{f'{LEVEL:.0%} interval':>18}"
        for arm, values in by_arm.items():
            yield f"{arm:36}  {interval(values)}"
        for arm in others:
            pairs = zip(by_arm[first], by_arm[arm], strict=True)
            changes = [after - before for before, after in pairs]
            yield f"{f'{arm} - {first}':36}  {interval(changes)}"


def draw(claim: Claim, runs: Mapping[str, Sequence[Run]], table: Table) -> str:
    """The training loss by step, or the first measure of each run by arm, as SVG."""
    if claim.by_step:
        return plot({arm: mean_curve(of_arm) for arm, of_arm in runs.items()})
    name, by_arm = next(iter(table.items()))
    return plot({arm: dots(values) for arm, values in by_arm.items()}, x_name=name)


def mean_curve(runs: Sequence[Run]) -> Curve:
    """Over seeds."""
    steps = zip(*(run.log("step") for run in runs), strict=True)
    return [(same[0]["step"], fmean(entry["loss"] for entry in same)) for same in steps]


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
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=32, help="to measure on")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--copy", default="canny", help='ControlNet to copy; "" for the base')
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
