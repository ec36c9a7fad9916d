"""The unit of work: the rows of a shard become its parts and records, whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cnctl.curation.examples import ShardTask, make_examples
from cnctl.curation.folder import folder_part, read_folder
from cnctl.curation.layout import SPLITS, records_name, shard_name
from cnctl.curation.parts import Members, Part, Record
from cnctl.curation.published import Published, publish, publishing, remove
from cnctl.curation.recipe import Form
from cnctl.curation.tar import read_tar, tar_part
from cnctl.curation.tools import Tools


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """The line of a shard in the manifest. files: by their paths below the output.

    several_frames: how many images have several, of which the first is read.
    """

    shard: int
    rows: int
    done: int
    left_out: Mapping[str, int]
    several_frames: int = 0
    files: Mapping[str, Published] = field(default_factory=dict)

    def __post_init__(self) -> None:
        left_out = sum(self.left_out.values())
        assert self.done + left_out == self.rows, f"{self.done} + {left_out} of {self.rows} rows"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


Entry = tuple[Record, Members]
"""The record of a row, and the files of its example."""
OPEN: Mapping[Form, Callable[[Path], AbstractContextManager[Part]]] = {
    "tar": tar_part,
    "folder": folder_part,
}
READ = {"tar": read_tar, "folder": read_folder}


def make_shard(task: ShardTask, tools: Tools, out: Path) -> ShardReport:
    """Write the parts and the records of a shard, and return what was done.

    The bytes depend on the task, the recipe and the versions of libraries alone. What an earlier
    attempt has left is replaced. Raises OutputError where a file cannot be written.
    """
    outcomes = make_examples(task, tools)
    entries = ((outcome.record(), outcome.members) for outcome in outcomes)
    form = tools.recipe.form
    return write_shard(out, task.number, entries, form=form, rows=len(task.rows))


def write_shard(
    out: Path, shard: int, entries: Iterable[Entry], *, form: Form, rows: int
) -> ShardReport:
    """Write the files of a shard; none appears before all are complete."""
    reasons: Counter[str] = Counter()
    several = 0
    with _ShardFiles(out, shard, form).opened() as files:
        for record, members in entries:
            files.add(record, members)
            reasons[record["reason"] or ""] += 1
            several += record["frames"] > 1
        written = files.publish()
    done = reasons.pop("", 0)
    left_out = dict(sorted((str(reason), count) for reason, count in reasons.items()))
    return ShardReport(
        shard=shard,
        rows=rows,
        done=done,
        left_out=left_out,
        several_frames=several,
        files=written,
    )


def rewrite_records(out: Path, report: ShardReport, records: Iterable[Record]) -> ShardReport:
    """Write the records of a shard again; its examples stay as they are."""
    path = out / (name := records_name(report.shard))
    with publishing(path) as file:
        for record in records:
            file.write(_line(record))
        written = publish(file, path)
    return replace(report, files={**report.files, name: written})


def read_part(
    out: Path, form: Form, split: str, shard: int, *, only: str | None = None
) -> Iterator[tuple[str, dict[str, bytes | Path]]]:
    """Yield the key and the files of each example that a shard has in a split, in their order.

    only: the key of the one that is wanted.
    """
    return READ[form](out / shard_name(form, split, shard), only=only)


class _ShardFiles:
    """The parts of a shard under their temporary names. A split without examples has none."""

    def __init__(self, out: Path, shard: int, form: Form) -> None:
        self._out, self._form = out, form
        self._names = {split: shard_name(form, split, shard) for split in SPLITS}
        self._records_name = records_name(shard)
        self._parts: dict[str, Part] = {}
        self._open = ExitStack()

    @contextmanager
    def opened(self) -> Iterator[_ShardFiles]:
        with self._open:
            self._records = self._open.enter_context(publishing(self._out / self._records_name))
            yield self

    def add(self, record: Record, members: Members) -> None:
        if not record["reason"]:
            record = self._part(record["split"]).add(record, members)
        self._records.write(_line(record))

    def publish(self) -> dict[str, Published]:
        """Publish all; the part of a split that an earlier attempt had and this has not goes."""
        for split in SPLITS:
            if split not in self._parts:
                remove(self._out / self._names[split])
        found = {self._names[split]: part.publish() for split, part in sorted(self._parts.items())}
        records = publish(self._records, self._out / self._records_name)
        return {self._records_name: records, **found}

    def _part(self, split: str) -> Part:
        if split not in self._parts:
            opened = OPEN[self._form](self._out / self._names[split])
            self._parts[split] = self._open.enter_context(opened)
        return self._parts[split]


def _line(record: Record) -> bytes:
    return (json.dumps(record) + "\n").encode("ascii")
