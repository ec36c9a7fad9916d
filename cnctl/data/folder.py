"""Pairs of image files: those of an index, metadata.jsonl, metadata.csv or prompt.json."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cnctl.data.columns import (
    COLUMNS,
    FLAG,
    Names,
    check_given,
    names_image,
    unread_hints,
    unread_names,
)
from cnctl.data.examples import Example
from cnctl.data.index import TABLE, Entry, read_entries
from cnctl.data.problems import Problem
from cnctl.errors import CnctlError
from cnctl.images import read_image, read_size, shown

METADATA = "metadata.jsonl"
FILL50K = "prompt.json"
INDEXES = (METADATA, "metadata.csv", FILL50K)
"""Names of index files, the preferred ones first."""
FILL50K_COLUMNS = Names(("target",), ("source",), ("prompt",))
"""The original repository's."""

HintSource = Path | bytes


@dataclass(frozen=True)
class Row:
    """One pair."""

    image: Path
    hint: Path | None
    prompt: str


@dataclass(frozen=True)
class FolderDataset:
    """Pairs of image files. fingerprint: a hash of what lists them; the images are not read."""

    folder: Path
    rows: tuple[Row, ...]
    read_hint: Callable[[HintSource], np.ndarray]
    fingerprint: str = ""
    problems: tuple[Problem, ...] = ()

    @property
    def ready_hints(self) -> int:
        """How many examples include a hint."""
        return sum(row.hint is not None for row in self.rows)

    @property
    def ready_prompts(self) -> int:
        """How many examples include a prompt."""
        return sum(bool(row.prompt.strip()) for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        hint = self.read_hint(row.hint) if row.hint else None
        return Example(read_image(row.image), hint, row.prompt)

    def prompt(self, index: int) -> str:
        """Return the prompt alone; no file is read."""
        return self.rows[index].prompt

    def name(self, index: int) -> str:
        """Return the image's path below the folder."""
        return shown(self.key(index))

    def key(self, index: int) -> str:
        """Return what the index calls the image, which does not depend on where the folder is."""
        return _below(self.rows[index].image, self.folder).as_posix()

    def image_size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of the image, which is not decoded."""
        return read_size(self.rows[index].image)

    def take(self, indices: Sequence[int]) -> FolderDataset:
        """Return a data set of these examples alone, numbered from 0."""
        return replace(self, rows=tuple(self.rows[index] for index in indices))

    def missing(self) -> list[Path]:
        """Return the files that the index names and that do not exist."""
        paths = (path for row in self.rows for path in (row.image, row.hint) if path)
        return [path for path in paths if not path.is_file()]


def open_index(
    index: Path, given: Mapping[str, str], *, read_hint: Callable[[HintSource], np.ndarray]
) -> FolderDataset:
    """Open the pairs that an index lists, with paths relative to its folder.

    given: names of columns, from `parse_columns`. Only the index is read.
    """
    columns = (FILL50K_COLUMNS if index.name == FILL50K else COLUMNS).replaced(given)
    entries = read_entries(index)
    found = list(dict.fromkeys(name for entry in entries for name in entry.fields))
    check_given(given, found, shown(index))
    rows = tuple(_read_row(index, entry, columns) for entry in entries)
    problems = _problems(index, entries, rows, columns, is_given="hint" in given)
    return FolderDataset(
        folder=index.parent,
        rows=rows,
        read_hint=read_hint,
        fingerprint=hashlib.sha256(index.read_bytes()).hexdigest(),
        problems=tuple(problems),
    )


def _read_row(index: Path, entry: Entry, columns: Names) -> Row:
    image, hint, prompt = (_text(entry, names) for names in columns)
    if not image:
        has = f"it has {', '.join(map(repr, entry.fields))}; {FLAG} maps them, or "
        raise CnctlError(
            f"{entry.where} has no {columns.image[0]!r}",
            hint=has * bool(entry.fields) + _how_to_write(index, columns),
        )
    return Row(
        image=index.parent / image, hint=index.parent / hint if hint else None, prompt=prompt
    )


def _text(entry: Entry, names: Sequence[str]) -> str:
    """Return the value of the first of these columns that has one, or ""."""
    name = _used(entry, names)
    value = entry.fields[name] if name else ""
    if not isinstance(value, str):
        raise CnctlError(f"{entry.where}: {name!r} is not text", hint="fix or remove it")
    return value


def _used(entry: Entry, names: Sequence[str]) -> str:
    return next((name for name in names if entry.fields.get(name)), "")


def _problems(
    index: Path,
    entries: Sequence[Entry],
    rows: Sequence[Row],
    columns: Names,
    *,
    is_given: bool,
) -> Iterator[Problem]:
    """Yield a column that may hold the hints that are missing, and those that are not read."""
    unread: Counter[str] = Counter()
    candidates: Counter[str] = Counter()
    for entry, row in zip(entries, rows, strict=True):
        used = [_used(entry, names) for names in columns]
        left = {name: v for name, v in entry.fields.items() if v and name not in used}
        image = entry.fields[used[0]]
        if row.hint is None and not is_given:
            candidates.update(name for name, v in left.items() if names_image(v) and v != image)
        if not _is_record(entry):
            unread.update(left)
    for name, count in candidates.most_common(1):
        yield unread_hints(shown(index), name, count=count, examples=len(rows))
    yield from unread_names(shown(index), "columns", unread)


def _is_record(entry: Entry) -> bool:
    """Return whether the line also says how its hint was made, as `cnctl annotate` writes it."""
    names = entry.fields.keys()
    return {"condition", "options"} <= names or {"hints", "source_sha256"} <= names


def _how_to_write(index: Path, columns: Names) -> str:
    image, hint, prompt = (names[0] if names else "" for names in columns)
    if index.suffix.lower() == TABLE:
        return f"its first line names the columns: {image},{hint},{prompt}"
    sample = {image: "images/1.png", hint: "hints/1.png", prompt: "a red house"}
    return f"write {json.dumps(sample)}"


def _below(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path
