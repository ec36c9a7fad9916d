"""A larger effective batch from some step on, as users of the paper advise after convergence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchGrowth:
    """A step reads `times` the first batch of the run, from step `since` (counted from 0) on."""

    since: int = 0
    times: int = 1

    def times_at(self, step: int) -> int:
        """How many of the first steps' batches step `step` reads."""
        return self.times if step >= self.since else 1

    def read_before(self, step: int) -> int:
        """How many of them all steps before `step` have read."""
        return step + max(0, step - self.since) * (self.times - 1)
