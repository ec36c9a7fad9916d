"""Pairs of image files: those of an index, metadata.jsonl, metadata.csv or prompt.json."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

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
from cnctl.data.packed_texts import PackedTexts, pack_texts
from cnctl.data.problems import Problem
from cnctl.data.shards import ShardDataset
from cnctl.data.subset_lists import names_examples, open_subset
from cnctl.errors import CnctlError
from cnctl.images import read_image, read_size, shown

METADATA = "metadata.jsonl"
FILL50K = "prompt.json"
INDEXES = (METADATA, "metadata.csv", FILL50K)
"""Names of index files, the preferred ones first."""
FILL50K_COLUMNS = Names(("target",), ("source",), ("prompt",))
"""The original repository's."""

HintSource = Path | bytes


class Pair(NamedTuple):
    """One pair as an index has it; "" for none."""

    image: str
    hint: str
    prompt: str


@dataclass(frozen=True)
class Row:
    """One pair."""

    image: Path
    hint: Path | None
    prompt: str


@dataclass(frozen=True)
class FolderDataset:
    """Pairs of image files. fingerprint: a hash of what lists them; the images are not read.

    texts: of each pair the path of the image and of the hint, relative to the folder or absolute,
    and the prompt; "" for none.
    """

    folder: Path
    texts: PackedTexts
    read_hint: Callable[[HintSource], np.ndarray]
    fingerprint: str = ""
    problems: tuple[Problem, ...] = ()

    @property
    def ready_hints(self) -> int:
        """How many examples include a hint."""
        return self.texts.filled(1)

    @property
    def ready_prompts(self) -> int:
        """How many examples include a prompt."""
        return sum(bool(prompt.strip()) for *_, prompt in self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def row(self, index: int) -> Row:
        """Return a pair by its number."""
        image, hint, prompt = self.texts[index]
        return Row(self.folder / image, self.folder / hint if hint else None, prompt)

    def __getitem__(self, index: int) -> Example:
        row = self.row(index)
        hint = self.read_hint(row.hint) if row.hint else None
        return Example(read_image(row.image), hint, row.prompt)

    def prompt(self, index: int) -> str:
        """Return the prompt alone; no file is read."""
        return self.texts[index][2]

    def name(self, index: int) -> str:
        """Return the image's path below the folder."""
        return shown(self.key(index))

    def key(self, index: int) -> str:
        """Return what the index calls the image, which does not depend on where the folder is."""
        return _below(self.row(index).image, self.folder).as_posix()

    def image_size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of the image, which is not decoded."""
        return read_size(self.row(index).image)

    def take(self, indices: Sequence[int]) -> FolderDataset:
        """Return a data set of these examples alone, numbered from 0."""
        return replace(self, texts=self.texts.take(indices))

    def missing(self) -> list[Path]:
        """Return the files that the index names and that do not exist."""
        rows = map(self.row, range(len(self)))
        paths = (path for row in rows for path in (row.image, row.hint) if path)
        return [path for path in paths if not path.is_file()]


def pack_rows(rows: Iterable[Row], folder: Path) -> PackedTexts:
    """Pack pairs whose files are in this folder or elsewhere."""
    return pack_texts(
        (
            (_stored(row.image, folder), _stored(row.hint, folder) if row.hint else "", row.prompt)
            for row in rows
        ),
        columns=len(Pair._fields),
    )


def _stored(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path.absolute())


def open_index(
    index: Path, given: Mapping[str, str], *, read_hint: Callable[[HintSource], np.ndarray]
) -> FolderDataset | ShardDataset:
    """Open the pairs that an index lists, with paths relative to its folder.

    given: names of columns, from `parse_columns`. Only the index is read.
    """
    columns = (FILL50K_COLUMNS if index.name == FILL50K else COLUMNS).replaced(given)
    entries = read_entries(index)
    first = next(entries)
    entries = chain([first], entries)
    if names_examples(first):
        return open_subset(index, list(entries), given, read_hint=read_hint)
    left = _Unread()
    texts = pack_texts(_read(entries, columns, left), columns=len(Pair._fields))
    check_given(given, list(left.names), shown(index))
    if left.without_image:
        raise _no_image(index, left.without_image, columns)
    return FolderDataset(
        folder=index.parent,
        texts=texts,
        read_hint=read_hint,
        fingerprint=hashlib.sha256(index.read_bytes()).hexdigest(),
        problems=tuple(left.problems(shown(index), len(texts), is_given="hint" in given)),
    )


def _read(entries: Iterable[Entry], columns: Names, left: _Unread) -> Iterator[Pair]:
    for entry in entries:
        pair = Pair(*(_text(entry, names) for names in columns))
        left.add(entry, pair, columns)
        yield pair


@dataclass
class _Unread:
    """What an index has that is not read."""

    names: dict[str, None] = field(default_factory=dict)
    """All columns."""
    without_image: Entry | None = None
    """The first entry that names no image."""
    columns: Counter[str] = field(default_factory=Counter)
    candidates: Counter[str] = field(default_factory=Counter)
    """Columns that may hold the hints that are missing."""

    def add(self, entry: Entry, pair: Pair, columns: Names) -> None:
        """Look at one entry, of which the pair is read."""
        self.names.update(dict.fromkeys(entry.fields))
        if not pair.image:
            self.without_image = self.without_image or entry
        used = [_used(entry, names) for names in columns]
        left = {name: v for name, v in entry.fields.items() if v and name not in used}
        if not pair.hint:
            named = (name for name, v in left.items() if names_image(v) and v != pair.image)
            self.candidates.update(named)
        if not _is_record(entry):
            self.columns.update(left)

    def problems(self, index: str, examples: int, *, is_given: bool) -> Iterator[Problem]:
        """Yield the columns that are not read; is_given: whether one was named for the hints."""
        for name, count in () if is_given else self.candidates.most_common(1):
            yield unread_hints(index, name, count=count, examples=examples)
        yield from unread_names(index, "columns", self.columns)


def _no_image(index: Path, entry: Entry, columns: Names) -> CnctlError:
    has = f"it has {', '.join(map(repr, entry.fields))}; {FLAG} maps them, or "
    return CnctlError(
        f"{entry.where} has no {columns.image[0]!r}",
        hint=has * bool(entry.fields) + _how_to_write(index, columns),
    )


def _text(entry: Entry, names: Sequence[str]) -> str:
    """Return the value of the first of these columns that has one, or ""."""
    name = _used(entry, names)
    value = entry.fields[name] if name else ""
    if not isinstance(value, str):
        raise CnctlError(f"{entry.where}: {name!r} is not text", hint="fix or remove it")
    return value


def _used(entry: Entry, names: Sequence[str]) -> str:
    for name in names:
        if entry.fields.get(name):
            return name
    return ""


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
