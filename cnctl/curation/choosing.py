"""Take the rows with the most pixels, or a sample, without having all rows in memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping

from cnctl.curation.rows import Row
from cnctl.curation.sources.reading import read_row
from cnctl.data.subset import place_in_order
from cnctl.errors import CnctlError
from cnctl.images import read_size

Key = tuple[int, bytes, int]


def choose_rows(
    rows: Callable[[], Iterable[Row]],
    *,
    largest: int | None,
    sample: int | None,
    seed: int,
    secrets: Mapping[str, str],
) -> Iterator[Row]:
    """Yield a `sample` of the `largest` rows, in their order, as `cnctl.data.subset.choose` does.

    rows: gives all rows, each time it is called.
    """
    if largest is None and sample is None:
        yield from rows()
        return
    keys = _keys(rows(), seed, secrets if largest is not None else None)
    if largest is not None:
        keys = iter(_least(largest, keys, "--largest"))
    if sample is not None:
        keys = iter(_least(sample, ((0, place, i) for _, place, i in keys), "--sample"))
    chosen = {index for _, _, index in keys}
    yield from (row for index, row in enumerate(rows()) if index in chosen)


def _keys(rows: Iterable[Row], seed: int, secrets: Mapping[str, str] | None) -> Iterator[Key]:
    """Yield what rows are ordered by: pixels, most first, then the seed's random order."""
    for index, row in enumerate(rows):
        pixels = 0 if secrets is None else _pixels(row, secrets)
        yield -pixels, place_in_order(seed, row.name), index


def _pixels(row: Row, secrets: Mapping[str, str]) -> int:
    try:
        height, width = read_size(read_row(row, secrets).data)
    except CnctlError:  # reported if it is chosen nevertheless
        return 0
    return height * width


def _least(count: int, keys: Iterable[Key], flag: str) -> list[Key]:
    found = heapq.nsmallest(count, keys)
    if not 1 <= count <= len(found):
        raise CnctlError(f"{flag} {count} of {len(found)} images", hint=f"give 1 to {len(found)}")
    return found
