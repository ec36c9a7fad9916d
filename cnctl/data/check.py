"""Check every example before hours are spent on training with it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cnctl.data.examples import Dataset, Example
from cnctl.data.pairs import Detect
from cnctl.data.problems import Problem
from cnctl.errors import CnctlError, counted

ASPECT_TOLERANCE = 0.02


@dataclass
class DataReport:
    """What a check found. sizes: (height, width) of the images -> how many."""

    examples: int
    problems: list[Problem] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    refused: bool = False
    """Whether training would not start with these data."""
    detected: int = 0
    """Examples whose hint is not in the data and has to be detected."""

    @property
    def fatal(self) -> int:
        """How many problems would stop training."""
        return sum(problem.fatal for problem in self.problems)

    def summary(self) -> str:
        """Return the report in one line."""
        sizes = ", ".join(
            f"{count} of {width} x {height}" for (height, width), count in self.sizes.most_common(3)
        )
        others = len(self.sizes) - 3
        more = f" and {counted(others, 'more size')}" if others > 0 else ""
        stop = f", {self.fatal} of them would stop training" if self.problems else ""
        return (
            f"{counted(self.examples, 'example')} ({sizes}{more}), {self.detected} without a hint; "
            f"{counted(len(self.problems), 'problem')}{stop}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "examples": self.examples,
            "detected": self.detected,
            "sizes": {f"{width}x{height}": n for (height, width), n in self.sizes.items()},
            "problems": [asdict(problem) for problem in self.problems],
        }


def check_dataset(
    dataset: Dataset,
    *,
    detect: Detect,
    resolution: int,
    is_cut: Callable[[str], bool] = lambda prompt: False,
    on_example: Callable[[int], None] = lambda done: None,
) -> DataReport:
    """Read all examples and report what is missing, damaged, empty, too small or duplicated.

    is_cut(prompt): whether no text encoder reads all of it at once.
    """
    refused = any(problem.fatal for problem in dataset.problems)
    report = DataReport(len(dataset), [*dataset.problems], refused=refused)
    others_have_hints = dataset.ready_hints > 0
    seen: dict[bytes, str] = {}
    for index in range(len(dataset)):
        name = dataset.name(index)
        try:
            example = dataset[index]
            hint = detect(example.image, None) if example.hint is None else example.hint
        except CnctlError as error:
            report.problems.append(Problem(name, _without(name, str(error)), fatal=True))
        else:
            report.sizes[example.image.shape[:2]] += 1
            report.detected += example.hint is None
            whats = [*_look(example, hint, resolution), *_twin(example, name, seen)]
            if example.hint is None and others_have_hints:
                whats.append("it has no hint, but others have one")
            if is_cut(example.prompt):
                whats.append("the prompt is cut to what a text encoder reads at once")
            report.problems += [Problem(name, what) for what in whats]
        on_example(index + 1)
    return report


def _look(example: Example, hint: np.ndarray | None, resolution: int) -> Iterator[str]:
    height, width = example.image.shape[:2]
    if min(height, width) < resolution:
        yield f"the image is {width} x {height}, smaller than the resolution {resolution}"
    if hint is None:
        yield "the detector finds nothing"
    elif np.ptp(hint) == 0:
        yield f"the hint is blank: every value is {hint.flat[0]}"
    if example.hint is not None and not _same_aspect(example.image, example.hint):
        size = f"{example.hint.shape[1]} x {example.hint.shape[0]}"
        yield f"the image is {width} x {height} but the hint {size}: they do not match if cropped"
    if not example.prompt.strip():
        yield "the prompt is empty"


def _same_aspect(image: np.ndarray, hint: np.ndarray) -> bool:
    """Whether they differ by little, or by no more than sides rounded to multiples of 8 do."""
    tolerance = max(ASPECT_TOLERANCE, 8 / min(hint.shape[:2]))
    ratio = (image.shape[0] * hint.shape[1]) / (image.shape[1] * hint.shape[0])
    return abs(ratio - 1) <= tolerance


def _twin(example: Example, name: str, seen: dict[bytes, str]) -> Iterator[str]:
    key = hashlib.sha256(example.image.tobytes()).digest()
    if key in seen:
        yield f"the same image as {seen[key]}"
    seen.setdefault(key, name)


def _without(name: str, message: str) -> str:
    """Return the message without the example's name at its start."""
    _, found, rest = message.partition(f"{name}: ")
    return rest if found else message
