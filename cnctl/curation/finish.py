"""What is done once, when all shards are there: duplicates, subsets, and the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cnctl.curation.folder import write_indexes
from cnctl.curation.layout import REPORT
from cnctl.curation.leaving_out import leave_out_duplicates
from cnctl.curation.plan import Plan
from cnctl.curation.statistics import Statistics, count_records, read_records
from cnctl.curation.subsets import write_subsets
from cnctl.curation.work import Workplace

FINISH_LOCK = (1 << 60) + 2
"""The number that the process which finishes a data set claims."""


def finish(
    place: Workplace, write_report: Callable[[Statistics], None], *, processes: int = 1
) -> None:
    """Leave out duplicates, in so many processes, and write the subsets and the report.

    A data set that is finished is left as it is. Whatever is interrupted, it can be repeated.
    """
    out, plan = place.out, place.plan
    records = partial(read_records, out, plan)
    with place.claims.waiting_for(FINISH_LOCK):
        if is_finished(out, plan):
            return
        leave_out_duplicates(place, processes=processes)
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
