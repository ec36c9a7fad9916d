"""Shards made one after another in this process: for few images, and for debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnctl.curation.shard import ShardReport
from cnctl.curation.work import Workplace


class InProcess:
    """Makes shards with the detectors that a workplace has in memory."""

    def __init__(self, place: Workplace, *, on_report: Callable[[ShardReport], None]) -> None:
        self._place, self._on_report = place, on_report

    def make(self, shards: Sequence[int]) -> list[int]:
        """Make these shards, but for those that are returned: other runs have them in work."""
        claimed = []
        for shard in shards:
            if report := self._place.run(shard):
                self._on_report(report)
            else:
                claimed.append(shard)
        return claimed
