"""Open a training set: an index, tables, paired folders, shards, or drawn scenes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cnctl.data.annotated import check_finished
from cnctl.data.columns import FOLDERS, check_given, parse_columns
from cnctl.data.examples import Dataset, read_colours
from cnctl.data.folder import INDEXES, open_index
from cnctl.data.index import SUFFIXES
from cnctl.data.paired_folders import find_paired, open_paired
from cnctl.data.scenes import SceneDataset, check_class
from cnctl.data.shards import open_shard_files, open_shards
from cnctl.data.table_parts import PARQUET
from cnctl.data.tables import SPLIT, find_tables, open_tables
from cnctl.data.urls import is_url
from cnctl.errors import CnctlError, shown

SCENES = re.compile(r"scenes:(\d+)(?::(\w+))?")
"""How many scenes to draw, and of which class."""


def open_dataset(
    spec: str | Path,
    *,
    columns: str | None = None,
    read_hint: Callable[[Path | bytes], np.ndarray] = read_colours,
    size: int = 128,
    note: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Open a folder with an index, of tables or of paired files; an index; shards; or scenes.

    An index is metadata.jsonl, .csv or prompt.json, or any .jsonl or .csv that is named itself;
    its paths are relative to its folder. One may also name examples of shards, see
    `cnctl.data.subset_lists`. Tables are Arrow or Parquet files, see
    `cnctl.data.tables`; paired files have equal names, see `cnctl.data.paired_folders`. Shards are
    a glob, braces or a URL that ends in `.tar`, see `cnctl.data.shards`. `scenes:N` draws scenes,
    `scenes:N:person` draws scenes that show this class.

    Only what lists the examples is read here, and what is wrong with that is in the data set's
    `problems`. columns: "image=a,hint=b,prompt=c", where the names are not the known ones.
    read_hint: a hint's file, or its bytes -> uint8 (H, W, C). size: side of a scene, pixels.
    note: is called with what takes long, and with what was chosen where there is a choice.
    """
    given = parse_columns(columns)
    if match := SCENES.fullmatch(str(spec)):
        if given:
            raise CnctlError("drawn scenes have no columns", hint="leave out --columns")
        count = _at_least_one(int(match[1]), spec)
        return SceneDataset(count=count, size=size, show=check_class(match[2]))
    if is_url(str(spec)) or str(spec).endswith(".tar"):
        return open_shards(str(spec), given, read_hint=read_hint, note=note)
    path = Path(spec)
    if path.is_dir():
        return _open_folder(path, given, read_hint=read_hint, note=note)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return open_index(path, given, read_hint=read_hint)
    if path.is_file() and path.suffix.lower() == PARQUET:
        return open_tables(path.parent, [path], given, read_hint=read_hint)
    raise _no_dataset(path)


def check_place(spec: str | Path) -> None:
    """Raise CnctlError where there is nothing that could be a data set; nothing is read."""
    path, listed = Path(spec), {*SUFFIXES, PARQUET}
    if SCENES.fullmatch(str(spec)) or is_url(str(spec)) or str(spec).endswith(".tar"):
        return
    if not (path.is_dir() or (path.is_file() and path.suffix.lower() in listed)):
        raise _no_dataset(path)


def is_dataset(folder: Path) -> bool:
    """Return whether a folder holds pairs, and not images alone."""
    return bool(_find_indexes(folder) or find_tables(folder) or find_paired(folder, {}))


def _open_folder(
    folder: Path,
    given: Mapping[str, str],
    *,
    read_hint: Callable[[Path | bytes], np.ndarray],
    note: Callable[[str], None],
) -> Dataset:
    check_finished(folder)
    tables = find_tables(folder, note)
    if indexes := _find_indexes(folder):
        others = [*indexes[1:], *tables[:1]]
        if others or indexes[0].parent != folder:
            beside = f", and not {', '.join(_below(path, folder) for path in others)}"
            note(f"{_below(indexes[0], folder)} is read{beside if others else ''}")
        return open_index(indexes[0], given, read_hint=read_hint)
    if tables:
        return open_tables(folder, tables, given, read_hint=read_hint)
    if shards := _find_shards(folder):
        if shards[0].parent != folder:
            note(f"{SPLIT}/*.tar is read")
        return open_shard_files(shards, str(folder), given, read_hint=read_hint)
    check_given(given, _folders(folder), shown(folder))
    if files := find_paired(folder, given):
        return open_paired(folder, files, read_hint=read_hint)
    raise _nothing_in(folder)


def _find_indexes(folder: Path) -> list[Path]:
    """Return the indexes in a folder, or else in its train/; the preferred one first."""
    for place in (folder, folder / SPLIT):
        if found := [place / name for name in INDEXES if (place / name).is_file()]:
            return found
    return []


def _find_shards(folder: Path) -> list[Path]:
    """Return the tar files in a folder, or else in its train/, sorted by name."""
    for place in (folder, folder / SPLIT):
        if found := sorted(place.glob("*.tar")):
            return found
    return []


def _below(path: Path, folder: Path) -> str:
    return shown(path.relative_to(folder))


def _folders(folder: Path) -> list[str]:
    found = (path.name for path in folder.iterdir() if path.is_dir())
    return sorted(name for name in found if not name.startswith("."))


def _no_dataset(path: Path) -> CnctlError:
    return CnctlError(
        f"--data {shown(path)}: " + ("not a data set" if path.is_file() else "no such folder"),
        hint="give a folder of pairs, an index (.jsonl, .csv), shards (.tar) or scenes:2000",
    )


def _nothing_in(folder: Path) -> CnctlError:
    folders = _folders(folder)
    below = sorted(path for path in folder.iterdir() if path.is_file())
    indexes = [path for path in below if path.suffix.lower() in SUFFIXES]
    hint = "`cnctl annotate --dataset` makes such a folder from images"
    if indexes:
        hint = f"name the index itself: --data {shown(indexes[0])}"
    elif len(folders) > 1:
        order = sorted(folders, key=lambda n: (n in FOLDERS.hint, n not in FOLDERS.image))
        first, second = (shown(name) for name in (order[0], order[-1]))
        hint = f"--columns image={first},hint={second} pairs the files of folders by name; {hint}"
    return CnctlError(
        f"{shown(folder)} has no index ({', '.join(INDEXES)}) and no tables", hint=hint
    )


def _at_least_one(count: int, spec: str | Path) -> int:
    if count < 1:
        raise CnctlError(f"--data {spec} holds no examples", hint="for example scenes:2000")
    return count
