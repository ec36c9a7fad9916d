"""What `train` reports while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cnctl.commands.shared.events import Loading, Note, Stage
from cnctl.commands.train.plan import TrainPlan
from cnctl.training.trainer import StepReport


@dataclass(frozen=True)
class Started:
    """The run is about to train from this step."""

    plan: TrainPlan
    step: int


@dataclass(frozen=True)
class Previewed:
    """A preview after this step. fidelity: mean of the condition's metric, None if unknown."""

    step: int
    metric: str
    fidelity: float | None
    path: Path


@dataclass(frozen=True)
class Converged:
    """Control has set in at this step, as the previews since then show."""

    step: int


@dataclass(frozen=True)
class BatchGrown:
    """Each step reads `batch` examples from this step on."""

    step: int
    batch: int


Event: TypeAlias = Note | Loading | Started | StepReport | Previewed | Converged | BatchGrown
OnEvent: TypeAlias = Callable[[Event], None]
OnCheck: TypeAlias = Callable[[Note | Stage], None]
"""What `check_data` reports to: notes, and the stage "checking"."""
