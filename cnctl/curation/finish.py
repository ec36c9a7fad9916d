"""What is done once, when all shards are there: duplicates, subsets, and the report."""

from __future__ import annotations

import json
import tarfile
from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from cnctl.curation.duplicates import find_duplicates
from cnctl.curation.layout import REPORT, tar_name
from cnctl.curation.plan import Plan
from cnctl.curation.reasons import Reason
from cnctl.curation.rules.judge import DUPLICATES
from cnctl.curation.shard import Entry, write_shard
from cnctl.curation.statistics import (
    Record,
    Statistics,
    count_records,
    read_records,
    shard_records,
)
from cnctl.curation.subsets import write_subsets
from cnctl.curation.work import Workplace

FINISH_LOCK = (1 << 60) + 2
"""The number that the process which finishes a data set claims."""


def finish(place: Workplace, write_report: Callable[[Statistics], None]) -> None:
    """Leave out duplicates, and write the subsets and the report.

    A data set that is finished is left as it is. Whatever is interrupted, it can be repeated.
    """
    out, plan = place.out, place.plan
    records = partial(read_records, out, plan)
    with place.claims.waiting_for(FINISH_LOCK):
        if is_finished(out, plan):
            return
        _leave_out_duplicates(place)
        subsets = write_subsets(out, plan, records())
        write_report(count_records(plan, records, subsets))


def is_finished(out: Path, plan: Plan) -> bool:
    """Whether the report of this very plan is there; it is written last."""
    try:
        found = json.loads((out / REPORT).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("plan") == plan.digest


def _leave_out_duplicates(place: Workplace) -> None:
    """Write the shards that hold duplicates again, without them, and then the manifest."""
    out, plan = place.out, place.plan
    reports = place.manifest.reports()
    most = plan.recipe.bounds[DUPLICATES].most
    like = {} if most is None else _duplicates(read_records(out, plan), int(most))
    for shard in sorted({row // plan.recipe.per_shard for row in like}):
        entries = _entries(out, shard, like, keep_all=plan.recipe.keep_all)
        reports[shard] = write_shard(out, shard, entries, rows=plan.count(shard))
    place.manifest.rewrite(reports.values())


def _duplicates(records: Iterator[Record], distance: int) -> dict[int, int]:
    """The rows that are left out, each with the row that it is like."""
    rows, hashes = array("Q"), array("Q")  # 16 bytes for a row, as there may be millions
    for record in records:
        if record["phash"] is not None:
            rows.append(record["row"])
            hashes.append(int(record["phash"], 16))
    like = find_duplicates(np.frombuffer(hashes, np.uint64), distance)
    return {rows[i]: rows[like[i]] for i in np.flatnonzero(like >= 0)}


def _entries(out: Path, shard: int, like: Mapping[int, int], *, keep_all: bool) -> Iterator[Entry]:
    """The entries of a shard again, those that are like others marked or left out."""
    members = _Members(out, shard)
    for record in shard_records(out, shard):
        known = record["row"] not in like
        if known:
            yield record, members.of(record)
        elif keep_all:
            not_met = list(dict.fromkeys([*record["not_met"], Reason.DUPLICATE]))
            yield {**record, "not_met": not_met}, members.of(record)
        else:
            error = f"it is like row {like[record['row']]}"
            yield {**record, "reason": Reason.DUPLICATE, "error": error}, {}


class _Members:
    """The files of a shard's examples, read in the order in which they were written."""

    def __init__(self, out: Path, shard: int) -> None:
        self._out, self._shard = out, shard
        self._read: dict[str, Iterator[tuple[str, dict[str, bytes]]]] = {}

    def of(self, record: Record) -> dict[str, bytes]:
        """The files of a row; {} where it has none."""
        if record["reason"]:
            return {}
        split = record["split"]
        if split not in self._read:
            self._read[split] = read_examples(self._out / tar_name(split, self._shard))
        return next(files for key, files in self._read[split] if key == record["key"])


def read_examples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the key and the files of each example of a tar file that we have written."""
    key = ""
    files: dict[str, bytes] = {}
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            found, _, kind = info.name.partition(".")
            if found != key and files:
                yield key, files
                files = {}
            key = found
            content = tar.extractfile(info)
            assert content is not None
            files[kind] = content.read()
    if files:
        yield key, files
