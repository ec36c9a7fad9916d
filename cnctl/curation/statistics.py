"""What is in a data set and what is not: counts, histograms and samples, from the records."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cnctl.curation.layout import records_name
from cnctl.curation.parts import Record
from cnctl.curation.plan import Plan
from cnctl.errors import reading

BINS = 20
SAMPLES = 8
"""Rows of each reason that are shown."""
KEPT = ""
"""Stands for a reason where a row is kept."""


@dataclass(frozen=True)
class Histogram:
    """How many values lie in each of equal parts between the least and the most."""

    least: float
    most: float
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of a whole data set. samples: records by reason, "" for those that are kept.

    several_frames: how many images have several, of which the first is read.
    not_met: rules that examples do not meet which are kept nevertheless. subsets: how many
    examples each subset has, by its size.
    """

    plan: str
    rows: int
    done: int
    left_out: Mapping[str, int]
    several_frames: int
    splits: Mapping[str, int]
    not_met: Mapping[str, int]
    captions: Mapping[str, int]
    histograms: Mapping[str, Histogram]
    samples: Mapping[str, tuple[Record, ...]]
    subsets: Mapping[int, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; samples by name."""
        named = {
            reason or "kept": [record["name"] for record in records]
            for reason, records in self.samples.items()
        }
        return {**asdict(self), "samples": named}


def read_records(out: Path, plan: Plan) -> Iterator[Record]:
    """Yield the records of all rows, in order."""
    for shard in range(plan.shards):
        yield from shard_records(out, shard)


def shard_records(out: Path, shard: int) -> Iterator[Record]:
    """Yield the records of a shard's rows."""
    path = out / records_name(shard)
    with reading(path), path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def count_records(
    plan: Plan, records: Callable[[], Iterable[Record]], subsets: Mapping[int, int]
) -> Statistics:
    """Count what the records say. records: gives all of them, each time it is called."""
    left_out: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    not_met: Counter[str] = Counter()
    captions: Counter[str] = Counter()
    ends: dict[str, tuple[float, float]] = {}
    samples = _Samples()
    rows = several = 0
    for record in records():
        rows += 1
        several += record["frames"] > 1
        samples.add(record)
        for name, value in record["numbers"].items():
            least, most = ends.get(name, (value, value))
            ends[name] = min(least, value), max(most, value)
        if record["reason"]:
            left_out[record["reason"]] += 1
        else:
            splits[record["split"]] += 1
            captions[record["caption_source"] or "none"] += 1
            not_met.update(record["not_met"])
    assert splits.total() + left_out.total() == rows == plan.rows
    return Statistics(
        plan=plan.digest,
        rows=rows,
        done=splits.total(),
        left_out=_sorted(left_out),
        several_frames=several,
        splits=_sorted(splits),
        not_met=_sorted(not_met),
        captions=_sorted(captions),
        histograms=_histograms(records(), ends),
        samples=samples.chosen(),
        subsets=subsets,
    )


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _histograms(
    records: Iterable[Record], ends: Mapping[str, tuple[float, float]]
) -> dict[str, Histogram]:
    counts: dict[str, list[int]] = {name: [0] * BINS for name in ends}
    for record in records:
        for name, value in record["numbers"].items():
            least, most = ends[name]
            place = int(BINS * (value - least) / (most - least)) if most > least else 0
            counts[name][min(place, BINS - 1)] += 1
    return {name: Histogram(*ends[name], tuple(counts[name])) for name in sorted(ends)}


class _Samples:
    """Some rows of each reason, drawn by their numbers' hashes."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[int, int, Record]]] = defaultdict(list)

    def add(self, record: Record) -> None:
        digest = hashlib.sha256(str(record["row"]).encode()).digest()
        entry = (-int.from_bytes(digest[:8], "big"), record["row"], record)
        heap = self._heaps[record["reason"] or KEPT]
        if len(heap) < SAMPLES:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)

    def chosen(self) -> dict[str, tuple[Record, ...]]:
        return {
            reason: tuple(entry[2] for entry in sorted(heap, key=lambda entry: entry[1]))
            for reason, heap in sorted(self._heaps.items())
        }
