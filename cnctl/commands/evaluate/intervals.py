"""Means of scores, and how far another draw of as many hints would move them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean, and the ends of its interval of confidence at `LEVEL`."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:8.3f}  {self.low:6.3f} to {self.high:6.3f}"


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean with its percentile bootstrap interval (Efron, 1979), from a fixed seed.

    values: one for each hint, independent of each other; for a comparison, their differences.
    """
    given = np.asarray(values, np.float64)
    rng = np.random.default_rng(0)
    means = [given[rng.integers(len(given), size=len(given))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(given.mean()), float(low), float(high))
