"""The sudden convergence of the paper's figure 21, found in the scores of a run's previews."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from cnctl.plugin import Metric
from cnctl.settings.train import ON_CONVERGENCE

SHARE = 0.25
"""Part of the way from the base alone to perfect obedience, well above chance and noise."""


def growth_on(convergence: str) -> int:
    """How many times its batch a run takes after convergence, by its `on_convergence`."""
    match = re.fullmatch(ON_CONVERGENCE, convergence)
    return int(match[1]) if match and match[1] else 1


def find_convergence(scores: Mapping[int, float], metric: Metric) -> int | None:
    """The first step whose preview, and the next one too, obeys clearly better than the base alone.

    scores: fidelity by step; the first is the base's own. None while there is no such step, and
    where the metric has no known best (more than 1, where more is better).
    """
    steps = sorted(scores)
    if not steps:
        return None
    chance, best = scores[steps[0]], 1.0 if metric.higher_is_better else 0.0
    if (max(scores.values()) > 1 and metric.higher_is_better) or chance == best:
        return None
    obeys = {step: (scores[step] - chance) / (best - chance) >= SHARE for step in steps}
    return next((step for step, after in pairwise(steps) if obeys[step] and obeys[after]), None)
