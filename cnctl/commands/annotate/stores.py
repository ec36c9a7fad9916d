"""Where `cnctl annotate` puts hints: standard output, files, or a folder for training."""

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

from cnctl.commands.annotate.plan import Target, pair_name
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.data import DatasetWriter, Example
from cnctl.errors import CnctlError, OutputError
from cnctl.images import (
    check_folder,
    check_output,
    encode_hint,
    read_metadata,
    shown,
    write_hint,
    write_image,
)
from cnctl.system.lines import read_lines

METADATA_KEY = "cnctl"


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
        if sys.stdout.isatty():
            raise CnctlError(
                "a hint is not text that a terminal can show", hint="add > hint.png, or -o FILE"
            )
        yield _Stream()
    elif request.dataset:
        if overwrite:
            raise CnctlError("--dataset adds to a folder", hint="choose a new -o to start over")
        with DatasetWriter(out) as writer:
            yield _Pairs(writer, request.prompt)
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
        return not self.overwrite and _holds(self.path, self._metadata)

    def write(self, picture: np.ndarray) -> None:
        write_image(self.path, picture, metadata=self._metadata, overwrite=self.overwrite)

    @property
    def _metadata(self) -> dict[str, str]:
        return {METADATA_KEY: json.dumps({"compared": [dict(r) for r in self.records]})}


class _Stream:
    """Standard output, for one hint."""

    def holds(self, target: Target) -> bool:
        return False

    def write(self, target: Target, image: np.ndarray, hint: np.ndarray) -> None:
        sys.stdout.buffer.write(encode_hint(hint, _metadata(target)))
        sys.stdout.buffer.flush()


@dataclass(frozen=True)
class _Files:
    """One file for each hint, which says in its metadata how it was made."""

    overwrite: bool

    def holds(self, target: Target) -> bool:
        return not self.overwrite and _holds(target.path, _metadata(target))

    def write(self, target: Target, image: np.ndarray, hint: np.ndarray) -> None:
        try:
            write_hint(target.path, hint, metadata=_metadata(target), overwrite=self.overwrite)
        except OutputError:
            if not self.holds(target):  # another run may have written it meanwhile
                raise


def _metadata(target: Target) -> dict[str, str]:
    return {METADATA_KEY: json.dumps(target.record, sort_keys=True)}


def _holds(path: Path, metadata: Mapping[str, str]) -> bool:
    """Whether the file exists with these metadata. OutputError if it has others."""
    if not os.path.exists(path):
        return False
    if not path.is_file() or _stored_metadata(path) != metadata:
        raise OutputError(
            f"{shown(path)} exists already and is not this hint",
            hint="--overwrite replaces it; or choose another -o",
        )
    return True


def _stored_metadata(path: Path) -> dict[str, str]:
    with contextlib.suppress(CnctlError):  # not an image at all
        return read_metadata(path)
    return {}


@dataclass(frozen=True)
class _Pairs:
    """A folder for training: images/, hints/, and a line of metadata.jsonl for each pair."""

    writer: DatasetWriter
    prompt: str | None

    def holds(self, target: Target) -> bool:
        name = pair_name(target.image)
        if name not in self.writer:
            return False
        if any(self.writer.entry(name).get(k) != value for k, value in target.record.items()):
            raise OutputError(
                f"{shown(target.path)} was made with another condition, seed or options",
                hint="give the same ones to continue, or choose a new -o",
            )
        return True

    def write(self, target: Target, image: np.ndarray, hint: np.ndarray) -> None:
        name = pair_name(target.image)
        if not _is_utf8(name):
            raise CnctlError(f"{shown(name)}: a data set's names must be UTF-8", hint="rename it")
        example = Example(image, hint, self._prompt_of(target.image.path))
        self.writer.add(name, example, record=target.record)

    def _prompt_of(self, image: Path) -> str:
        """The text beside the image in one line, or else the prompt for all."""
        sidecar = image.with_suffix(".txt")
        if sidecar.is_file():
            return " ".join(" ".join(read_lines(sidecar)).split())
        if self.prompt is None:
            raise CnctlError(
                f"{shown(image)} has no prompt",
                hint=f"write {sidecar.name}, or give --prompt",
            )
        return self.prompt


def _is_utf8(name: str) -> bool:
    """Whether the name has no lone surrogate, which stands for a byte that could not be decoded."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
