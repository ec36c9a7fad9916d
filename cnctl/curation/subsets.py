"""Nested subsets of the training split: lists of examples in an order that content decides."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cnctl.curation.folder import ENTRY, FILE_NAME
from cnctl.curation.layout import SUBSETS, TRAIN, shard_name
from cnctl.curation.parts import Record
from cnctl.curation.plan import Plan
from cnctl.curation.published import publish, publishing


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
        place = hashlib.sha256(f"{plan.recipe.seed}/{record['sha256']}".encode()).digest()
        yield place, record["row"], (json.dumps(_line(plan, record)) + "\n").encode()


def _line(plan: Plan, record: Record) -> dict[str, Any]:
    """What names an example; paths are relative to the folder of subsets, as of any index."""
    if ENTRY in record:
        files = {n: f"../{TRAIN}/{v}" for n, v in record[ENTRY].items() if n.endswith(FILE_NAME)}
        return {**record[ENTRY], **files}
    shard = shard_name("tar", TRAIN, record["row"] // plan.recipe.per_shard)
    return {"shard": f"../{shard}", "key": record["key"], "name": record["name"]}
