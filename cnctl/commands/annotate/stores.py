"""Where `cnctl annotate` writes hints: standard output, or files."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cnctl.commands.annotate.plan import Target
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.errors import CnctlError, OutputError, OutputExists
from cnctl.hints.outputs import COMPARED, METADATA_KEY, stored_record
from cnctl.images import (
    check_folder,
    check_output,
    encode_hint,
    shown,
    write_hint,
    write_image,
)
from cnctl.system.standard_streams import was_closed

CALLED = {
    "source_sha256": "image",
    "options": "set of options",
    "ground_truth": "map",
    "ground_truth_sha256": "map",
    COMPARED: "set of hints",
}
"""What messages call the entries of a record."""


class Store(Protocol):
    """Where hints go."""

    def holds(self, target: Target) -> bool:
        """Whether an earlier run wrote this very hint. OutputError if it wrote another one."""

    def write(self, target: Target, image: np.ndarray, hint: np.ndarray) -> None: ...


@contextlib.contextmanager
def open_store(request: AnnotateRequest) -> Iterator[Store]:
    """The store for -o; OutputError at once if nothing can be written there."""
    out, overwrite = request.out, request.overwrite
    if out == "-":
        if was_closed("stdout"):
            raise OutputError("standard output is closed", hint="name a file with -o")
        if sys.stdout.isatty():
            raise CnctlError(
                "a hint is not text that a terminal can show", hint="add > hint.png, or -o FILE"
            )
        yield _Stream()
    elif request.is_one_file:
        check_output(out, overwrite=overwrite)
        check_folder(Path(out).parent)
        yield _Files(overwrite)
    else:
        check_folder(out)
        yield _Files(overwrite)


@dataclass(frozen=True)
class SheetStore:
    """One picture of an image beside its hints. records: what those hints are a function of."""

    path: Path
    records: Sequence[Mapping[str, Any]]
    overwrite: bool

    def is_done(self) -> bool:
        """Whether an earlier run wrote this very sheet. OutputError if it wrote another one."""
        return not self.overwrite and _holds(self.path, self._record)

    def write(self, picture: np.ndarray) -> None:
        metadata = _metadata(self._record)
        try:
            write_image(self.path, picture, metadata=metadata, overwrite=self.overwrite)
        except OutputExists:  # another run has written it meanwhile
            self.is_done()

    @property
    def _record(self) -> dict[str, Any]:
        return {COMPARED: [dict(record) for record in self.records]}


class _Stream:
    """Standard output, for one hint."""

    def holds(self, target: Target) -> bool:
        return False

    def write(self, target: Target, image: np.ndarray, hint: np.ndarray) -> None:
        sys.stdout.buffer.write(encode_hint(hint, _metadata(target.record)))
        sys.stdout.buffer.flush()


@dataclass(frozen=True)
class _Files:
    """One file for each hint, which says in its metadata how it was made."""

    overwrite: bool

    def holds(self, target: Target) -> bool:
        return not self.overwrite and _holds(target.path, target.record)

    def write(self, target: Target, image: np.ndarray, hint: np.ndarray) -> None:
        metadata = _metadata(target.record)
        try:
            write_hint(target.path, hint, metadata=metadata, overwrite=self.overwrite)
        except OutputExists:  # another run has written it meanwhile
            self.holds(target)


def _metadata(record: Mapping[str, Any]) -> dict[str, str]:
    return {METADATA_KEY: json.dumps(record, sort_keys=True)}


def _holds(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether the file exists and was made of this; OutputError if of anything else."""
    if not os.path.lexists(path):
        return False
    if differs := _difference(stored_record(path), record):
        raise OutputError(
            f"{shown(path)} exists already and {differs}",
            hint="--overwrite replaces it; or choose another -o",
        )
    return True


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What an output was made with that it would not be now, as the end of a sentence; else ""."""
    names = [n for n in (*wanted, "ground_truth") if found.get(n) != wanted.get(n)]
    called = [*dict.fromkeys(CALLED.get(name, name) for name in names)]
    if any(name in found for name in names):
        return f"was made with another {' and '.join(called)}"
    return f"does not name its {called[0]}" if names else ""
