"""Subsets of a data set: its largest images, or a sample of them (paper, section 3.5)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence

from cnctl.data.examples import Dataset
from cnctl.data.folder import FolderDataset
from cnctl.data.shards import ShardDataset
from cnctl.data.tables import TableDataset
from cnctl.errors import CnctlError


def take_part(
    dataset: Dataset, *, largest: int | None = None, sample: int | None = None, seed: int = 0
) -> Dataset:
    """Return a data set of only those examples that `choose` picks."""
    if largest is None and sample is None:
        return dataset
    if not isinstance(dataset, FolderDataset | ShardDataset | TableDataset):
        raise CnctlError(
            "all drawn scenes have one size, so --largest and --sample do not apply",
            hint="leave them out, and give the number you want, for example scenes:1000",
        )
    keys = [dataset.key(index) for index in range(len(dataset))]
    return dataset.take(choose(keys, dataset.image_size, largest=largest, sample=sample, seed=seed))


def choose(
    names: Sequence[str],
    size: Callable[[int], tuple[int, int]],
    *,
    largest: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> list[int]:
    """Return ascending indices: a random `sample` of the `largest` images; None takes all.

    size(i) is (height, width) of image i; one that raises CnctlError ranks last. The choice
    depends on the seed and the names alone, and a sample of 1000 is part of the sample of 10,000.
    Images of one size are ranked at random too. Raises CnctlError where there are too few images.
    """
    indices = list(range(len(names)))
    places = {index: place_in_order(seed, names[index]) for index in indices}
    if largest is not None:
        _check(largest, len(indices), "--largest")
        pixels = {index: _pixels(size, index) for index in indices}
        indices.sort(key=lambda index: (-pixels[index], places[index]))
        indices = indices[:largest]
    if sample is not None:
        _check(sample, len(indices), "--sample")
        indices = sorted(indices, key=places.__getitem__)[:sample]
    return sorted(indices)


def _pixels(size: Callable[[int], tuple[int, int]], index: int) -> int:
    with contextlib.suppress(CnctlError):  # reported if it is chosen nevertheless
        height, width = size(index)
        return height * width
    return 0


def place_in_order(seed: int, name: str) -> bytes:
    """Return the sort key of a name in the random order of this seed."""
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()


def _check(wanted: int, count: int, flag: str) -> None:
    if not 1 <= wanted <= count:
        raise CnctlError(f"{flag} {wanted} of {count} images", hint=f"give 1 to {count}")
