"""Open a training set: a folder of pairs or of tables, shards, or drawn scenes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnctl.data.examples import Dataset, read_colours
from cnctl.data.folder import is_folder_of_pairs, open_folder
from cnctl.data.scenes import SceneDataset, check_class
from cnctl.data.shards import open_shards
from cnctl.data.tables import find_tables, open_tables
from cnctl.data.urls import is_url
from cnctl.errors import CnctlError


def open_dataset(
    spec: str | Path,
    *,
    read_hint: Callable[[Path | bytes], np.ndarray] = read_colours,
    size: int = 128,
    note: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Open a folder with metadata.jsonl, .csv or prompt.json, or of tables; shards; or scenes.

    Tables are Arrow or Parquet files, see `cnctl.data.tables`. Shards are a glob, braces or a
    URL that ends in `.tar`, see `cnctl.data.shards`. `scenes:N` draws scenes, `scenes:N:person`
    draws scenes that show this class. Paths in an index are relative to its folder; a hint that it
    does not name is detected later. Only the index is read here. read_hint: a hint's file, or its
    bytes -> uint8 (H, W, C). size: side of a scene, pixels. note: is called with what takes long.
    """
    if match := re.fullmatch(r"scenes:(\d+)(?::(\w+))?", str(spec)):
        count = _at_least_one(int(match[1]), spec)
        return SceneDataset(count=count, size=size, show=check_class(match[2]))
    if is_url(str(spec)) or str(spec).endswith(".tar"):
        return open_shards(str(spec), read_hint=read_hint, note=note)
    path = Path(spec)
    if path.is_dir() and not is_folder_of_pairs(path) and (files := find_tables(path)):
        return open_tables(path, files, read_hint=read_hint)
    return open_folder(path, read_hint=read_hint)


def _at_least_one(count: int, spec: str | Path) -> int:
    if count < 1:
        raise CnctlError(f"--data {spec} holds no examples", hint="for example scenes:2000")
    return count
