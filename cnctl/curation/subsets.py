"""Nested subsets of the training split: lists of examples in an order that content decides."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from cnctl.curation.layout import SUBSETS, TRAIN, tar_name
from cnctl.curation.plan import Plan
from cnctl.curation.published import publish, publishing
from cnctl.curation.statistics import Record


def write_subsets(out: Path, plan: Plan, records: Iterable[Record]) -> dict[int, int]:
    """Write subsets/1000.jsonl and the like, and return how many examples each has.

    Each smaller one is the beginning of each larger one. Only the largest is in memory.
    """
    sizes = sorted(plan.recipe.subsets)
    if not sizes:
        return {}
    chosen = heapq.nsmallest(sizes[-1], _keys(plan, records))
    for size in sizes:
        path = out / SUBSETS / f"{size}.jsonl"
        with publishing(path) as file:
            for *_, line in chosen[:size]:
                file.write(line)
            publish(file, path)
    return {size: min(size, len(chosen)) for size in sizes}


def _keys(plan: Plan, records: Iterable[Record]) -> Iterator[tuple[bytes, int, bytes]]:
    for record in records:
        if record["reason"] or record["split"] != TRAIN:
            continue
        shard = record["row"] // plan.recipe.per_shard
        entry = {"shard": tar_name(TRAIN, shard), "key": record["key"], "name": record["name"]}
        place = hashlib.sha256(f"{plan.recipe.seed}/{record['sha256']}".encode()).digest()
        yield place, record["row"], (json.dumps(entry) + "\n").encode()
