"""Examples of local shards that a list names by shard and key, as `annotate --subsets` writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cnctl.data.index import Entry
from cnctl.data.shards import ShardDataset, open_shard_files
from cnctl.errors import CnctlError

COLUMNS = {"shard", "key"}


def names_examples(first: Entry) -> bool:
    """Return whether the entries of an index, of which this is one, name examples in shards."""
    return first.fields.keys() >= COLUMNS


def open_subset(
    index: Path,
    entries: Sequence[Entry],
    given: Mapping[str, str],
    *,
    read_hint: Callable[[bytes], np.ndarray],
) -> ShardDataset:
    """Open these examples in their order; shards are relative to the folder of the list."""
    wanted = [(_shard(index, entry), str(entry.fields.get("key"))) for entry in entries]
    paths = list(dict.fromkeys(path for path, _ in wanted))
    whole = open_shard_files(paths, str(index), given, read_hint=read_hint)
    places = {(row.shard.name, row.key): place for place, row in enumerate(whole.rows)}
    found = [places.get((str(path), key)) for path, key in wanted]
    for entry, place in zip(entries, found, strict=True):
        if place is None:
            text = f"{entry.where}: {entry.fields['shard']} has no example {entry.fields['key']}"
            raise CnctlError(text, hint="make the subsets again")
    return whole.take([place for place in found if place is not None])


def _shard(index: Path, entry: Entry) -> Path:
    name = entry.fields.get("shard")
    if not isinstance(name, str):
        raise CnctlError(f"{entry.where} has no 'shard'", hint="make the subsets again")
    return Path(os.path.normpath(index.parent / name))
