"""The result of an evaluation: scores of pictures, their means, and how sets of them differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from cnctl.commands.evaluate.cases import Case
from cnctl.commands.evaluate.intervals import LEVEL, Interval, mean_interval
from cnctl.plugin import Metric

DOCUMENT = "evaluation.json"
PLOT = "plot.svg"
PAGE = "report.html"
ANOTHER = "another hint"
"""Title of the scores of images against hints that they were not made from."""
CHANCE_WIDTH = len(ANOTHER) + 2


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A picture with its scores. chance: the fidelity of the picture to another case's hint."""

    case: str
    seed: int | None
    path: Path
    fidelity: float
    chance: float | None = None
    clip: float | None = None


@dataclass(frozen=True, kw_only=True)
class ScoredSet:
    """The pictures of one ControlNet, or of one folder.

    fid: of all pictures; kid: mean and deviation over subsets; None where not asked for.
    """

    name: str
    pictures: Sequence[Scored]
    fid: float | None = None
    kid: tuple[float, float] | None = None

    def by_case(self, score: str) -> dict[str, float]:
        """The mean of a score over each case's pictures, which depend on each other."""
        found = defaultdict(list)
        for picture in self.pictures:
            if (value := getattr(picture, score)) is not None:
                found[picture.case].append(value)
        return {case: fmean(values) for case, values in found.items()}

    def interval(self, score: str) -> Interval | None:
        """The mean over cases of "fidelity", "chance" or "clip"; None where not measured."""
        values = [*self.by_case(score).values()]
        return mean_interval(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that was measured. failed: example that was not -> why. folder: of the pages."""

    condition: str
    metric: Metric
    cases: Sequence[Case]
    sets: Sequence[ScoredSet]
    folder: Path
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def pages(self) -> list[Path]:
        """The plot, the page for people, and all of it as JSON."""
        return [self.folder / name for name in (PLOT, PAGE, DOCUMENT)]

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Score -> set, or difference of two, -> its interval; nothing for what is not measured."""
        found = {}
        for score in ("fidelity", "chance", "clip"):
            rows = {one.name: interval for one in self.sets if (interval := one.interval(score))}
            if rows:
                found[score] = rows | (self._differences(score) if score != "chance" else {})
        return found

    def ordered(self) -> list[Case]:
        """The cases that have pictures, from the best obeyed to the worst."""
        scores = [one.by_case("fidelity") for one in self.sets]

        def mean(case: Case) -> float:
            return fmean(by_case[case.id] for by_case in scores if case.id in by_case)

        measured = [case for case in self.cases if any(case.id in by_case for by_case in scores)]
        return sorted(measured, key=mean, reverse=self.metric.higher_is_better)

    def lines(self) -> Iterator[str]:
        """A table for people."""
        better = "more" if self.metric.higher_is_better else "less"
        titles = {
            "fidelity": f"{self.metric.name} of {len(self.ordered())} hints, {better} is better",
            "clip": "CLIP score",
        }
        chance = self.intervals.get("chance", {})
        rows = {score: self.intervals[score] for score in titles if score in self.intervals}
        width = max(len(name) for row in (titles.values(), *rows.values()) for name in row) + 2
        for score, intervals in rows.items():
            by_chance = f"{ANOTHER:>{CHANCE_WIDTH}}" if score == "fidelity" and chance else ""
            yield f"{titles[score]:{width}}{'mean':>8}{f'{LEVEL:.0%} interval':>18}{by_chance}"
            for name, interval in intervals.items():
                mean = chance[name].mean if by_chance and name in chance else None
                other = "" if mean is None else f"{mean:{CHANCE_WIDTH}.3f}"
                yield f"{name:{width}}{interval}{other}"
        for one in self.sets:
            if one.fid is not None:
                yield f"{f'FID of {one.name}':{width}}{one.fid:8.3f}"
            if one.kid is not None:
                mean, deviation = one.kid
                yield f"{f'KID of {one.name}':{width}}{mean:8.4f}  +- {deviation:.4f}"

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "condition": self.condition,
            "metric": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "intervals": {
                score: {name: asdict(interval) for name, interval in rows.items()}
                for score, rows in self.intervals.items()
            },
            "sets": [{"name": one.name, "fid": one.fid, "kid": one.kid} for one in self.sets],
            "cases": [
                {
                    "name": case.title,
                    "prompt": case.prompt,
                    "hint": case.hint,
                    "outputs": [
                        {"set": one.name, **asdict(picture)}
                        for one in self.sets
                        for picture in one.pictures
                        if picture.case == case.id
                    ],
                }
                for case in self.ordered()
            ],
            "pages": self.pages,
            "failed": [{"name": name, "error": why} for name, why in self.failed.items()],
        }

    def _differences(self, score: str) -> dict[str, Interval]:
        """Returns the later minus the earlier of each two sets, over the cases that both have."""
        found = {}
        for one, other in combinations(self.sets, 2):
            before, after = one.by_case(score), other.by_case(score)
            changes = [after[case] - before[case] for case in before if case in after]
            if changes:
                found[f"{other.name} - {one.name}"] = mean_interval(changes)
        return found
