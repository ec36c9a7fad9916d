"""Leave out duplicates of a whole set: shards that hold some are written again without them."""

from __future__ import annotations

import multiprocessing
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from cnctl.curation.duplicates import find_duplicates
from cnctl.curation.folder import ENTRY
from cnctl.curation.parts import Members, Record
from cnctl.curation.reasons import Reason
from cnctl.curation.recipe import Form, Recipe
from cnctl.curation.rules.judge import DUPLICATES
from cnctl.curation.shard import Entry, ShardReport, read_part, rewrite_records, write_shard
from cnctl.curation.statistics import read_records, shard_records
from cnctl.curation.work import Workplace
from cnctl.errors import DeviceError
from cnctl.system.children import follow_parent

MANY = 5000
"""Rows whose shards are written again by several processes: to start these takes a second."""


def leave_out_duplicates(place: Workplace, *, processes: int) -> None:
    """Write the shards that hold duplicates again, without them, and then the manifest.

    Where all are kept, only the records are written again, which name the rule that is not met.
    """
    plan = place.plan
    reports = place.manifest.reports()
    most = plan.recipe.bounds[DUPLICATES].most
    like = {} if most is None else _duplicates(read_records(place.out, plan), int(most))
    by_shard: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for row, first in like.items():
        by_shard[row // plan.recipe.per_shard][row] = first
    rewrite = partial(_rewrite, place.out, plan.recipe)
    tasks = [(reports[shard], by_shard[shard]) for shard in sorted(by_shard)]
    is_much = not plan.recipe.keep_all and len(tasks) * plan.recipe.per_shard >= MANY
    with _mapping(processes if is_much else 1) as apply:
        for report in apply(rewrite, tasks):
            place.manifest.append(report)  # else a run that is killed now would make it again
            reports[report.shard] = report
    place.manifest.rewrite(reports.values())


def _rewrite(out: Path, recipe: Recipe, task: tuple[ShardReport, Mapping[int, int]]) -> ShardReport:
    report, like = task
    if recipe.keep_all:
        return rewrite_records(out, report, _marked(shard_records(out, report.shard), like))
    entries = _entries(out, recipe.form, report.shard, like)
    return write_shard(out, report.shard, entries, form=recipe.form, rows=report.rows)


@contextmanager
def _mapping(processes: int) -> Iterator[Callable[..., Iterator[ShardReport]]]:
    """Yield a `map` that works in so many processes."""
    if processes <= 1:
        yield map
        return
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, spawn, initializer=follow_parent) as pool:
            yield pool.map
    except BrokenProcessPool as error:
        raise DeviceError(
            "a process that leaves out duplicates was killed", hint="run it again: it continues"
        ) from error


def _duplicates(records: Iterator[Record], distance: int) -> dict[int, int]:
    """The rows that are left out, each with the row that it is like."""
    rows, hashes = array("Q"), array("Q")  # 16 bytes for a row, as there may be millions
    for record in records:
        if record["phash"] is not None:
            rows.append(record["row"])
            hashes.append(int(record["phash"], 16))
    like = find_duplicates(np.frombuffer(hashes, np.uint64), distance)
    return {rows[i]: rows[like[i]] for i in np.flatnonzero(like >= 0)}


def _marked(records: Iterable[Record], like: Mapping[int, int]) -> Iterator[Record]:
    """The records, those of rows that are like others with the rule that they do not meet."""
    for record in records:
        if record["row"] in like:
            not_met = list(dict.fromkeys([*record["not_met"], Reason.DUPLICATE]))
            record = {**record, "not_met": not_met}
        yield record


def _entries(out: Path, form: Form, shard: int, like: Mapping[int, int]) -> Iterator[Entry]:
    """The entries of a shard again; those that are like others are left out."""
    members = _Stored(out, form, shard)
    for record in shard_records(out, shard):
        if record["row"] in like:
            error = f"it is like row {like[record['row']]}"
            known = {name: value for name, value in record.items() if name != ENTRY}
            yield {**known, "reason": Reason.DUPLICATE, "error": error}, {}
        else:
            yield record, members.of(record)


class _Stored:
    """The files of a shard's examples, read in the order in which they were written."""

    def __init__(self, out: Path, form: Form, shard: int) -> None:
        self._out, self._form, self._shard = out, form, shard
        self._read: dict[str, Iterator[tuple[str, dict[str, bytes | Path]]]] = {}

    def of(self, record: Record) -> Members:
        """The files of a row; {} where it has none."""
        if record["reason"]:
            return {}
        split = record["split"]
        if split not in self._read:
            self._read[split] = read_part(self._out, self._form, split, self._shard)
        return next(files for key, files in self._read[split] if key == record["key"])
