"""Part of a data set: its largest images, or a sample of them (paper, section 3.5)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from cnctl.errors import CnctlError


def choose(
    names: Sequence[str],
    pixels: Callable[[int], int],
    *,
    largest: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> list[int]:
    """Indices, ascending: a random `sample` of the `largest` images; None takes all.

    pixels(i) is the size of image i. Whether an image is in depends on the seed and on the names
    alone, and a sample of 1000 is part of the sample of 10,000. Images of one size are ranked at
    random too. CnctlError where there are fewer than asked for.
    """
    indices = list(range(len(names)))
    places = {index: _place(seed, names[index]) for index in indices}
    if largest is not None:
        _check(largest, len(indices), "--largest")
        sizes = {index: pixels(index) for index in indices}
        indices.sort(key=lambda index: (-sizes[index], places[index]))
        indices = indices[:largest]
    if sample is not None:
        _check(sample, len(indices), "--sample")
        indices = sorted(indices, key=places.__getitem__)[:sample]
    return sorted(indices)


def _place(seed: int, name: str) -> bytes:
    """Where the name stands in the random order of this seed."""
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()


def _check(wanted: int, count: int, flag: str) -> None:
    if not 1 <= wanted <= count:
        raise CnctlError(f"{flag} {wanted} of {count} images", hint=f"give 1 to {count}")
