"""The rows of a shard, one after another, as examples or as what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from cnctl.curation.assembling import Loaded, finish_example, left_out, load_example
from cnctl.curation.captioning import caption
from cnctl.curation.detecting import detect
from cnctl.curation.outcome import LeftOut, Outcome
from cnctl.curation.reasons import Reason
from cnctl.curation.rows import Row
from cnctl.curation.tools import NO_ROWS, Tools

THREADS = 2
"""That decode the next images while a device works on these."""
ENDED = {
    Reason.KILLED: "workers were killed at it",
    Reason.TIMED_OUT: "it took longer than --image-timeout",
}


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """first: the number of its first row. killers: rows that have ended workers, which are left
    out, each with its reason: KILLED or TIMED_OUT.

    suspects: rows that workers were ended at, so that each is done alone.
    """

    number: int
    first: int
    rows: Sequence[Row]
    killers: Mapping[int, Reason] = field(default_factory=dict)
    suspects: frozenset[int] = frozenset()


def make_examples(task: ShardTask, tools: Tools) -> Iterator[Outcome]:
    """Yield the outcome of each row, in order."""
    groups = [*_groups(task, tools.recipe.batch)]
    with ExitStack() as stack:
        pool = None
        if tools.recipe.batch > 1:
            pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        loaded = _Ahead(task, tools, pool)
        for group, following in zip(groups, [*groups[1:], []], strict=True):
            yield from _outcomes(loaded(group, following), tools)
        tools.at(*NO_ROWS)


def _groups(task: ShardTask, batch: int) -> Iterator[list[int]]:
    """Yield the numbers of rows that are detected together."""
    group: list[int] = []
    for number in range(task.first, task.first + len(task.rows)):
        if number in task.suspects or number in task.killers:
            if group:
                yield group
            yield [number]
            group = []
            continue
        group.append(number)
        if len(group) == batch:
            yield group
            group = []
    if group:
        yield group


Entry = Loaded | Outcome


@dataclass
class _Ahead:
    """Loads a group, and in threads the one that follows it, unless one of them is suspected."""

    task: ShardTask
    tools: Tools
    pool: ThreadPoolExecutor | None
    _started: dict[int, Future[Entry]] = field(default_factory=dict)

    def __call__(self, group: list[int], following: list[int]) -> list[Entry]:
        if self.pool is None or not self.task.suspects.isdisjoint({*group, *following}):
            self.tools.at(group[0], group[-1])
            return [self._take(number) for number in group]
        self.tools.at(group[0], (following or group)[-1])
        for number in (*group, *following):
            if number not in self._started:
                self._started[number] = self.pool.submit(self._load, number)
        return [self._take(number) for number in group]

    def _take(self, number: int) -> Entry:
        started = self._started.pop(number, None)
        return self._load(number) if started is None else started.result()

    def _load(self, number: int) -> Entry:
        row = self.task.rows[number - self.task.first]
        if reason := self.task.killers.get(number):
            return left_out(number, row, LeftOut(reason, ENDED[reason]))
        return load_example(number, row, self.tools)


def _outcomes(entries: Sequence[Entry], tools: Tools) -> Iterator[Outcome]:
    entries = caption(entries, tools)
    loaded = [entry for entry in entries if isinstance(entry, Loaded)]
    found = detect(loaded, tools)
    for entry in entries:
        if isinstance(entry, Loaded):
            yield finish_example(entry, found[entry.number], tools)
        else:
            yield entry
