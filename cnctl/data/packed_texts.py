"""Millions of short texts in two buffers, where an object for each would take a kilobyte a row.

Nothing in the buffers is counted, so the pages that data workers inherit stay shared.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np

CODEC = ("utf-8", "surrogatepass")
"""Keeps file names that are not UTF-8, which are surrogates in Python."""


@dataclass(frozen=True, eq=False)
class PackedTexts(Sequence[tuple[str, ...]]):
    """Rows with a fixed number of texts.

    data: all texts, one after the other. spans: int64 (rows, texts + 1), the offset in bytes at
    which each text of a row begins, and the end of the last.
    """

    data: bytes
    spans: np.ndarray

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> PackedTexts: ...
    def __getitem__(self, index: int | slice) -> tuple[str, ...] | PackedTexts:
        if isinstance(index, slice):
            return PackedTexts(self.data, self.spans[index])
        ends = self.spans[index].tolist()
        return tuple(self.data[begin:end].decode(*CODEC) for begin, end in pairwise(ends))

    def __len__(self) -> int:
        return len(self.spans)

    def take(self, indices: Sequence[int]) -> PackedTexts:
        """Return these rows alone, in this order."""
        return PackedTexts(self.data, self.spans[np.asarray(indices, np.int64)])

    def joined(self, other: PackedTexts) -> PackedTexts:
        """Return these rows and then those of `other`, which has the same number of columns."""
        spans = np.concatenate([self.spans, other.spans + len(self.data)])
        return PackedTexts(self.data + other.data, spans)

    def filled(self, column: int) -> int:
        """Return how many rows have a text that is not empty there."""
        return int(np.count_nonzero(self.spans[:, column] < self.spans[:, column + 1]))


def pack_texts(rows: Iterable[Sequence[str]], *, columns: int) -> PackedTexts:
    """Pack rows of `columns` texts each."""
    data, spans = bytearray(), array("q")
    for row in rows:
        spans.append(len(data))
        for text in row:
            data += text.encode(*CODEC)
            spans.append(len(data))
    return PackedTexts(bytes(data), np.frombuffer(spans, np.int64).reshape(-1, columns + 1))
