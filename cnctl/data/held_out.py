"""The split of a data set that is kept for measuring: `validation/` beside `train/`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cnctl.data.examples import Dataset
from cnctl.data.folder import INDEXES, FolderDataset, pack_rows
from cnctl.data.shards import ShardDataset
from cnctl.data.tables import SPLIT
from cnctl.data.urls import is_url
from cnctl.errors import CnctlError

VALIDATION = "validation"
SUBSETS = "subsets"
"""A folder of lists of examples, beside those of the splits."""


def find_held_out(spec: str | Path) -> Path | None:
    """Return the split `validation` of a folder or of a list in its `subsets/`, if it has one.

    A folder has splits only if its index is in `train/`.
    """
    path = Path(spec)
    if is_url(str(spec)):
        return None
    folder = path.parent.parent if path.is_file() and path.parent.name == SUBSETS else path
    is_split = not _holds_examples(folder) and _holds_examples(folder / SPLIT)
    found = folder / VALIDATION
    return found if is_split and _holds_examples(found) else None


def join(dataset: Dataset, split: Dataset, indices: Sequence[int]) -> Dataset:
    """Return a data set to which these examples of a split, of the same form, are added."""
    problems = (*dataset.problems, *split.problems)
    if isinstance(dataset, ShardDataset) and isinstance(split, ShardDataset):
        rows = (*dataset.rows, *split.take(indices).rows)
        return replace(dataset, rows=rows, problems=problems)
    if isinstance(dataset, FolderDataset) and isinstance(split, FolderDataset):
        both = f"{dataset.fingerprint} {split.fingerprint}"
        return replace(
            dataset,
            texts=dataset.texts.joined(pack_rows(map(split.row, indices), dataset.folder)),
            fingerprint=hashlib.sha256(both.encode()).hexdigest(),
            problems=problems,
        )
    raise CnctlError(
        "train/ and validation/ have different forms", hint="--held-out 0 does not read validation/"
    )


def _holds_examples(folder: Path) -> bool:
    return any((folder / name).is_file() for name in INDEXES) or any(folder.glob("*.tar"))
