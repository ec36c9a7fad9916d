"""Whether a run can measure fidelity, and why not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cnctl.errors import CnctlError, MissingError
from cnctl.hints.metrics import find_metric
from cnctl.plugin import Condition
from cnctl.settings import TrainSettings


def describe_fidelity(
    condition: Condition, settings: TrainSettings, *, examples: int, missing: str
) -> str:
    """What is measured, for the plan.

    examples: how many it is measured on. missing: what the detector lacks, "" for nothing.
    Raises CnctlError where nothing is measured and the settings need it.
    """
    if reason := _unmeasured(settings, examples, missing):
        if settings.on_convergence != "continue":
            raise CnctlError(
                f"--on-convergence {settings.on_convergence} needs fidelity, which is not "
                f"measured: {reason}",
                hint="leave out --on-convergence, or change that",
            )
        return f"not measured: {reason}"
    metric = find_metric(condition.metric).name
    return f"{metric} on {examples} examples, every {settings.preview_every} steps"


def find_missing(detect: Callable[[np.ndarray], np.ndarray | None], side: int) -> str:
    """What a detector lacks and how to get it, found out on a grey square; "" for nothing."""
    try:
        detect(np.full((side, side, 3), 127, np.uint8))
    except MissingError as error:
        return f"{error}; {error.hint}"
    except CnctlError:
        return ""  # the first preview reports it, with the image of which it is true
    return ""


def _unmeasured(settings: TrainSettings, examples: int, missing: str) -> str:
    """Why fidelity is not measured; "" where it is."""
    if not settings.preview_every:
        return "no previews are made (--preview-every 0)"
    if not examples:
        return "no examples are held out (--held-out 0)"
    return missing
