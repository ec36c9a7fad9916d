"""Means of scores with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean, and the ends of its confidence interval at `LEVEL`."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:8.3f}  {self.low:6.3f} to {self.high:6.3f}"


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean with its percentile bootstrap interval (Efron, 1979), from a fixed seed.

    values: one for each hint, independent of each other; for a comparison, their differences. The
    interval of one value has no width.
    """
    from scipy import stats  # 0.7 s, which most commands need not wait for

    given = np.asarray(values, np.float64)
    if len(given) == 1:
        return Interval(*given.repeat(3).tolist())
    low, high = stats.bootstrap(
        (given,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=RESAMPLES // 10,
        confidence_level=LEVEL,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(given.mean()), float(low), float(high))
