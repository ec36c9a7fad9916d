"""What is done once, when all shards are there: duplicates, subsets, and the report."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from cnctl.curation.duplicates import find_duplicates
from cnctl.curation.folder import ENTRY, write_indexes
from cnctl.curation.layout import REPORT
from cnctl.curation.parts import Members, Record
from cnctl.curation.plan import Plan
from cnctl.curation.reasons import Reason
from cnctl.curation.recipe import Form
from cnctl.curation.rules.judge import DUPLICATES
from cnctl.curation.shard import Entry, read_part, rewrite_records, write_shard
from cnctl.curation.statistics import (
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
        if plan.recipe.form == "folder":
            write_indexes(out, records)
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
    """Write the shards that hold duplicates again, without them, and then the manifest.

    Where all are kept, only the records are written again, which name the rule that is not met.
    """
    out, plan = place.out, place.plan
    reports = place.manifest.reports()
    most = plan.recipe.bounds[DUPLICATES].most
    like = {} if most is None else _duplicates(read_records(out, plan), int(most))
    form = plan.recipe.form
    for shard in sorted({row // plan.recipe.per_shard for row in like}):
        if plan.recipe.keep_all:
            marked = _marked(shard_records(out, shard), like)
            reports[shard] = rewrite_records(out, reports[shard], marked)
        else:
            entries = _entries(out, form, shard, like)
            reports[shard] = write_shard(out, shard, entries, form=form, rows=plan.count(shard))
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
