"""What a training set is, and how one is opened: a folder of pairs, or scenes drawn on the way."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cnctl.dataset.urls import is_url
from cnctl.errors import CnctlError
from cnctl.images import read_hint, read_image, read_size, shown

METADATA = "metadata.jsonl"
TABLE = "metadata.csv"
FILL50K = "prompt.json"
COLUMNS = (
    ("image", "file_name", "image_file_name"),
    ("hint", "hint_file_name", "conditioning_image", "conditioning_image_file_name"),
    ("prompt", "text", "caption"),
)
"""Names of image, hint and prompt: our own, and those of Hugging Face's imagefolder."""
LAYOUTS = {
    METADATA: COLUMNS,
    TABLE: COLUMNS,
    FILL50K: (("target",), ("source",), ("prompt",)),  # the original repository's names
}
"""Index files, a table and JSON lines, and what they call things."""


read_colours = partial(read_hint, channels=3)


@dataclass(frozen=True)
class Example:
    """image: RGB uint8 (H, W, 3); hint: uint8 (h, w, C), or None where it is to be detected.

    maps: what a renderer knows of its picture, as `cnctl.plugin.Condition.from_maps` takes it.
    """

    image: np.ndarray
    hint: np.ndarray | None
    prompt: str
    maps: Mapping[str, Any] | None = None


class Dataset(Protocol):
    """Examples by number, each the same whenever it is read."""

    @property
    def fingerprint(self) -> str:
        """Changes when the examples do, as far as their index tells."""

    @property
    def ready_hints(self) -> int:
        """How many examples come with a hint of their own."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image, which is not decoded for it."""

    def name(self, index: int) -> str:
        """What to call an example in a message."""


def open_dataset(
    spec: str | Path,
    *,
    read_hint: Callable[[Path | bytes], np.ndarray] = read_colours,
    size: int = 128,
    note: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Open a folder with metadata.jsonl, .csv or prompt.json, or of tables; shards; or scenes.

    Tables are Arrow or Parquet files, see `cnctl.dataset.tables`. Shards are a glob, braces or a
    URL that ends in `.tar`, see `cnctl.dataset.shards`. `scenes:N` draws scenes, `scenes:N:person`
    such that show this class. Paths in an index are relative to its folder; without a hint it is
    detected later. Only the index is read here. read_hint: a hint's file, or its bytes -> uint8
    (H, W, C). size: side of a scene, pixels. note: told what takes long.
    """
    if match := re.fullmatch(r"scenes:(\d+)(?::(\w+))?", str(spec)):
        count = _at_least_one(int(match[1]), spec)
        return SceneDataset(count=count, size=size, show=_known_class(match[2]))
    if is_url(str(spec)) or str(spec).endswith(".tar"):
        from cnctl.dataset.shards import open_shards

        return open_shards(str(spec), read_hint=read_hint, note=note)
    path = Path(spec)
    if path.is_dir() and not any((path / name).is_file() for name in LAYOUTS):
        from cnctl.dataset.tables import find_tables, open_tables

        if files := find_tables(path):
            return open_tables(path, files, read_hint=read_hint)
    index = _find_index(path)
    return FolderDataset(index=index, rows=tuple(_read_rows(index)), read_hint=read_hint)


@dataclass(frozen=True)
class Row:
    """One line of an index: where the files are."""

    image: Path
    hint: Path | None
    prompt: str


@dataclass(frozen=True)
class FolderDataset:
    """Pairs that lie in files."""

    index: Path
    rows: tuple[Row, ...]
    read_hint: Callable[[Path | bytes], np.ndarray]

    @cached_property
    def fingerprint(self) -> str:
        """Of the index file's bytes; the images themselves are not read."""
        return hashlib.sha256(self.index.read_bytes()).hexdigest()

    @property
    def ready_hints(self) -> int:
        """How many lines name a hint."""
        return sum(row.hint is not None for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        hint = self.read_hint(row.hint) if row.hint else None
        return Example(read_image(row.image), hint, row.prompt)

    def name(self, index: int) -> str:
        """The image's path below the folder."""
        return shown(self.key(index))

    def key(self, index: int) -> str:
        """What the index calls the image: the same wherever the folder lies."""
        return _below(self.rows[index].image, self.index.parent).as_posix()

    def image_size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image, which is not decoded."""
        return read_size(self.rows[index].image)

    def take(self, indices: Sequence[int]) -> FolderDataset:
        """These examples alone, numbered anew."""
        return replace(self, rows=tuple(self.rows[index] for index in indices))

    def missing(self) -> list[Path]:
        """Files that the index names and that are not there."""
        paths = (path for row in self.rows for path in (row.image, row.hint) if path)
        return [path for path in paths if not path.is_file()]


@dataclass(frozen=True)
class SceneDataset:
    """Captioned scenes with their exact maps, drawn when they are asked for.

    show: the class that every scene shows; None for any. first: seed of the first scene.
    """

    count: int
    size: int
    show: str | None = None
    first: int = 0

    ready_hints = 0

    @property
    def fingerprint(self) -> str:
        """The scenes are a function of their numbers and their size."""
        return f"scenes:{self.count}{f':{self.show}' if self.show else ''}@{self.size}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        from cnctl.tiny.scenes import exact_maps, render_scene

        scene = render_scene(self.first + index, size=self.size, show=self.show)
        return Example(scene.image, None, scene.prompt, exact_maps(scene))

    def image_size(self, index: int) -> tuple[int, int]:
        """Scenes are square."""
        return self.size, self.size

    def read(self, image: np.ndarray) -> Mapping[str, Any]:
        """The maps that a network sees in an RGB uint8 (H, W, 3) picture such as these."""
        return self._reader.read(image)

    @cached_property
    def _reader(self) -> Any:
        from cnctl.tiny.reader import load_reader

        return load_reader()

    def name(self, index: int) -> str:
        """The scene's seed."""
        return f"scene {self.first + index}"


def _at_least_one(count: int, spec: str | Path) -> int:
    if count < 1:
        raise CnctlError(f"--data {spec} holds no examples", hint="for example scenes:2000")
    return count


def _known_class(name: str | None) -> str | None:
    from cnctl.tiny.shapes import CLASSES

    if name is not None and name not in CLASSES:
        raise CnctlError(f"no scene shows a {name!r}", hint=f"scenes show {', '.join(CLASSES)}")
    return name


def _find_index(path: Path) -> Path:
    """The index file at this path or in this folder."""
    if path.is_file() and path.name in LAYOUTS:
        return path
    if not path.is_dir():
        raise CnctlError(
            f"--data {shown(path)}: no such folder", hint="give a folder of pairs, or scenes:2000"
        )
    for name in LAYOUTS:
        if (path / name).is_file():
            return path / name
    raise CnctlError(
        f"{shown(path)} has none of {', '.join(LAYOUTS)}, and no tables",
        hint="`cnctl annotate --dataset` makes such a folder from images",
    )


def _read_rows(index: Path) -> list[Row]:
    text = index.read_text(encoding="utf-8", errors="replace")
    entries = _from_table(text) if index.name == TABLE else _from_lines(text, index)
    rows = [_read_row(index, f"line {number} of {shown(index)}", e) for number, e in entries]
    if not rows:
        raise CnctlError(f"{shown(index)} holds no examples", hint="it needs one line for each")
    return rows


def _from_table(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text))
    return ((reader.line_num, entry) for entry in reader)


def _from_lines(text: str, index: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            where = f"line {number} of {shown(index)}"
            raise CnctlError(
                f"{where} is not JSON: {error.msg}", hint="mend or remove it"
            ) from error


def _read_row(index: Path, where: str, entry: Any) -> Row:
    columns = LAYOUTS[index.name]
    fields = entry if isinstance(entry, dict) else {}
    image, hint, prompt = (_text(fields, names, where) for names in columns)
    if not image:
        raise CnctlError(f"{where} names no {columns[0][0]!r}", hint=_how_to_write(index.name))
    return Row(
        image=index.parent / image, hint=index.parent / hint if hint else None, prompt=prompt
    )


def _text(entry: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """What stands under the first of the names that is there, or ""."""
    name = next((name for name in names if entry.get(name)), names[0])
    value = entry.get(name) or ""
    if not isinstance(value, str):
        raise CnctlError(f"{where}: {name!r} is not text", hint="mend or remove it")
    return value


def _how_to_write(name: str) -> str:
    image, hint, prompt = (names[0] for names in LAYOUTS[name])
    if name == TABLE:
        return f"its first line names the columns: {image},{hint},{prompt}"
    sample = {image: "images/1.png", hint: "hints/1.png", prompt: "a red house"}
    return f"write {json.dumps(sample)}"


def _below(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path
