"""Images that look alike, over the whole set: the first of them, by its row, is kept.

Two hashes of 64 bits that differ in at most d bits are equal in one of d + 1 parts, so only hashes
that share a part are compared (Manku et al., Detecting near-duplicates for web crawling, 2007).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

BITS = 64
MOST = 7
"""The greatest distance: parts of 8 bits, below which nearly all hashes share one."""
BLOCK = 2048
"""Hashes in a block: each block is compared with each other one."""


def find_duplicates(hashes: np.ndarray, distance: int) -> np.ndarray:
    """The index of the hash for which each is left out, -1 for those that are kept, int64 (N,).

    hashes: uint64 (N,), in order. A hash is left out if an earlier one that is kept differs from it
    in at most `distance` bits.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.argsort(order)
    like = _greedy(unique[order], distance)
    kept_as = np.where(like < 0, np.arange(len(like)), like)
    found = first[order][kept_as[rank[inverse]]]
    return np.where(found == np.arange(len(hashes)), -1, found)


def _greedy(hashes: np.ndarray, distance: int) -> np.ndarray:
    """The same for hashes that all differ."""
    near: dict[int, set[int]] = defaultdict(set)
    for earlier, later in _pairs(hashes, distance):
        near[later].add(earlier)
    like = np.full(len(hashes), -1, np.int64)
    for later in sorted(near):
        kept = [earlier for earlier in near[later] if like[earlier] < 0]
        like[later] = min(kept, default=-1)
    return like


def _pairs(hashes: np.ndarray, distance: int) -> Iterator[tuple[int, int]]:
    """Yield (earlier, later) of hashes that differ in at most `distance` bits, perhaps twice."""
    if not distance:
        return
    edges = np.linspace(0, BITS, distance + 2).astype(np.uint64)
    for low, high in pairwise(edges):
        part = (hashes >> low) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(part, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(part[order]) != 0])
        for group in np.split(order, starts[1:]):
            if len(group) > 1:
                yield from _within(hashes, group, distance)


def _within(hashes: np.ndarray, group: np.ndarray, distance: int) -> Iterator[tuple[int, int]]:
    for i in range(0, len(group), BLOCK):
        for j in range(i, len(group), BLOCK):
            one, other = group[i : i + BLOCK], group[j : j + BLOCK]
            bits = np.bitwise_count(hashes[one][:, None] ^ hashes[other][None, :])
            for a, b in np.argwhere(bits <= distance):
                if one[a] < other[b]:
                    yield int(one[a]), int(other[b])
