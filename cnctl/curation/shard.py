"""The unit of work: the rows of a shard become its tar files and records, whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from cnctl.curation.examples import ShardTask, make_examples
from cnctl.curation.layout import SPLITS, records_name, tar_name
from cnctl.curation.published import HashedFile, Published, publish, publishing
from cnctl.curation.tar import TarWriter
from cnctl.curation.tools import Tools


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """The line of a shard in the manifest. files: by their paths below the output."""

    shard: int
    rows: int
    done: int
    left_out: Mapping[str, int]
    files: Mapping[str, Published] = field(default_factory=dict)

    def __post_init__(self) -> None:
        left_out = sum(self.left_out.values())
        assert self.done + left_out == self.rows, f"{self.done} + {left_out} of {self.rows} rows"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


Entry = tuple[Mapping[str, Any], Mapping[str, bytes]]
"""The record of a row, and the files of its example."""


def make_shard(task: ShardTask, tools: Tools, out: Path) -> ShardReport:
    """Write the tar files and the records of a shard, and return what was done.

    The bytes depend on the task, the recipe and the versions of libraries alone. What an earlier
    attempt has left is replaced. Raises OutputError where a file cannot be written.
    """
    outcomes = make_examples(task, tools)
    entries = ((outcome.record(), outcome.members) for outcome in outcomes)
    return write_shard(out, task.number, entries, rows=len(task.rows))


def write_shard(out: Path, shard: int, entries: Iterable[Entry], *, rows: int) -> ShardReport:
    """Write the files of a shard; none appears before all are complete."""
    reasons: Counter[str] = Counter()
    with _ShardFiles(out, shard).opened() as files:
        for record, members in entries:
            files.add(record, members)
            reasons[record["reason"] or ""] += 1
        written = files.publish()
    done = reasons.pop("", 0)
    left_out = dict(sorted((str(reason), count) for reason, count in reasons.items()))
    return ShardReport(shard=shard, rows=rows, done=done, left_out=left_out, files=written)


class _ShardFiles:
    """The files of a shard under their temporary names. A split without examples has none."""

    def __init__(self, out: Path, shard: int) -> None:
        self._out = out
        self._names = {split: tar_name(split, shard) for split in SPLITS}
        self._records = records_name(shard)
        self._files: dict[str, HashedFile] = {}
        self._tars: dict[str, TarWriter] = {}
        self._open = ExitStack()

    @contextmanager
    def opened(self) -> Iterator[_ShardFiles]:
        with self._open:
            self._start(self._records)
            yield self

    def add(self, record: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
        self._files[self._records].write((json.dumps(record) + "\n").encode("ascii"))
        if not record["reason"]:
            self._tar(record["split"]).add(record["key"], members)

    def publish(self) -> dict[str, Published]:
        """Publish all; the file of a split that an earlier attempt had and this has not goes."""
        for tar in self._tars.values():
            tar.__exit__(None, None, None)
        for name in set(self._names.values()) - self._files.keys():
            (self._out / name).unlink(missing_ok=True)
        return {name: publish(self._files[name], self._out / name) for name in sorted(self._files)}

    def _tar(self, split: str) -> TarWriter:
        if split not in self._tars:
            self._tars[split] = TarWriter(cast(BinaryIO, self._start(self._names[split])))
        return self._tars[split]

    def _start(self, name: str) -> HashedFile:
        self._files[name] = self._open.enter_context(publishing(self._out / name))
        return self._files[name]
