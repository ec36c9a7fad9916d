"""The manifest: a line for each shard that is published, appended under a lock."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path

from cnctl.curation.layout import MANIFEST
from cnctl.curation.published import FULL, Published, publish, publishing, size_of
from cnctl.curation.shard import ShardReport
from cnctl.errors import OutputError, shown, writing
from cnctl.system.locks import Claims

MANIFEST_LOCK = 1 << 60
"""The number, beyond those of shards, that who writes the manifest claims."""


class Manifest:
    """The shards of an output that are done, by any process."""

    def __init__(self, out: Path, claims: Claims) -> None:
        self._out = out
        self._path = out / MANIFEST
        self._claims = claims
        self._read = 0
        self._inode = 0
        self._reports: dict[int, ShardReport] = {}

    def reports(self) -> dict[int, ShardReport]:
        """The reports of the shards whose files are there, by number."""
        self._read_new()
        return {n: report for n, report in self._reports.items() if self._is_there(report)}

    def damaged(self) -> list[str]:
        """The files of shards that were done, and are missing now or have another size."""
        self._read_new()
        files = ((n, f) for report in self._reports.values() for n, f in report.files.items())
        return sorted(name for name, file in files if size_of(self._out / name) != file.bytes)

    def find(self, shard: int) -> ShardReport | None:
        """The report of a shard, if it is done."""
        self._read_new()
        report = self._reports.get(shard)
        return report if report and self._is_there(report) else None

    def append(self, report: ShardReport) -> None:
        """Add a shard that is published. A part of a line that a crash has left is removed."""
        line = _to_line(report)
        with self._claims.waiting_for(MANIFEST_LOCK), writing(self._path, hint=FULL):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                end = _end_of_lines(file)
                os.ftruncate(file, end)
                written = os.pwrite(file, line, end)
                if written < len(line):
                    os.ftruncate(file, end)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
            finally:
                os.close(file)
        self._reports[report.shard] = report

    def rewrite(self, reports: Iterable[ShardReport]) -> None:
        """Replace all lines by these, in the order of shards."""
        lines = b"".join(_to_line(r) for r in sorted(reports, key=lambda report: report.shard))
        with self._claims.waiting_for(MANIFEST_LOCK), publishing(self._path) as file:
            file.write(lines)
            publish(file, self._path)

    def _read_new(self) -> None:
        """Read what was added since the last time; a line without its end is not read yet."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            if os.fstat(file.fileno()).st_ino != self._inode:  # it was rewritten
                self._read, self._reports = 0, {}
                self._inode = os.fstat(file.fileno()).st_ino
            file.seek(self._read)
            *lines, _ = file.read().split(b"\n")
        for line in lines:
            self._read += len(line) + 1
            report = self._from_line(line)
            self._reports[report.shard] = report

    def _from_line(self, line: bytes) -> ShardReport:
        try:
            found = json.loads(line)
            files = {name: Published(**file) for name, file in found["files"].items()}
            return ShardReport(**{**found, "files": files})
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise OutputError(
                f"{shown(self._path)} has a line that is damaged",
                hint="remove the file: the shards are made again",
            ) from error

    def _is_there(self, report: ShardReport) -> bool:
        """Whether all files of a shard are there with their sizes."""
        return all(size_of(self._out / name) == file.bytes for name, file in report.files.items())


def _to_line(report: ShardReport) -> bytes:
    return (json.dumps(report.as_dict()) + "\n").encode()


def _end_of_lines(file: int) -> int:
    """Where the last whole line ends."""
    end = os.fstat(file).st_size
    while end:
        start = max(0, end - 4096)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
