"""How far a run is, and what it has left out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cnctl.curation.reasons import FAILURES
from cnctl.curation.shard import ShardReport


@dataclass
class Tally:
    """The rows of shards that are done: done + left out = rows."""

    rows: int = 0
    done: int = 0
    several_frames: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, report: ShardReport) -> None:
        """Count a shard."""
        self.rows += report.rows
        self.done += report.done
        self.several_frames += report.several_frames
        self.left_out.update(report.left_out)
        assert self.done + self.left_out.total() == self.rows

    @property
    def failed(self) -> int:
        """How many rows are left out because something is wrong with them."""
        return sum(self.left_out[reason] for reason in FAILURES)

    def reasons(self) -> str:
        """The reasons with their counts in words, the most frequent first; "" for none."""
        return ", ".join(f"{count} {reason}" for reason, count in self.left_out.most_common())


@dataclass(frozen=True, kw_only=True)
class Progress:
    """seen: rows of this run that are through, those of shards in work too; of `total`."""

    seen: int
    total: int
    left_out: int
    reasons: str
    rate: float
    """Images a second in this run; 0 where nothing is known yet."""

    @property
    def seconds_left(self) -> float | None:
        """An estimate; None where nothing is known yet."""
        return (self.total - self.seen) / self.rate if self.rate else None

    def line(self) -> str:
        """For people."""
        parts = [f"{self.seen} of {self.total} images"]
        if self.rate:
            parts.append(f"{self.rate:.1f} a second")
        if self.seconds_left:
            parts.append(f"{_duration(self.seconds_left)} to go")
        if self.left_out:
            parts.append(f"{self.left_out} left out ({self.reasons})")
        return ", ".join(parts)


class Meter:
    """Makes `Progress` of reports and of the rows in work."""

    def __init__(self, tally: Tally, total: int) -> None:
        self.tally = tally
        self._total = total
        self._before = tally.rows
        self._began = time.monotonic()

    def progress(self, in_work: int = 0) -> Progress:
        """Where the run is. in_work: rows of unfinished shards that are through."""
        seen = self.tally.rows + in_work
        seconds = time.monotonic() - self._began
        return Progress(
            seen=seen,
            total=self._total,
            left_out=self.tally.left_out.total(),
            reasons=self.tally.reasons(),
            rate=(seen - self._before) / seconds if seconds > 0 else 0.0,
        )


def _duration(seconds: float) -> str:
    """Seconds in words: 1 h 5 min, 3 min 20 s, 8 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def rows_in_work(firsts: Mapping[int, int], per_shard: int) -> int:
    """How many rows of unfinished shards are through. firsts: the row in work by shard."""
    return sum(row - shard * per_shard for shard, row in firsts.items())
