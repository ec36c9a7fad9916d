"""Aspect-ratio buckets: sizes of about one area, so that little of an image is cropped."""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]
"""Height and width."""

STRIDE = 64
"""Sides are multiples of this, so that every level of the network has whole sizes."""
LONGEST = 2
"""Longest side of a bucket, in multiples of the resolution."""


def bucket_sizes(resolution: int, *, factor: int) -> tuple[Size, ...]:
    """Return sizes of at most the area of a square of `resolution`, by height, the square included.

    Sides are multiples of STRIDE, or of an eighth of a smaller resolution, and of `factor`.
    """
    step = max(factor, min(STRIDE, resolution // 8) // factor * factor)
    long = range(resolution, LONGEST * resolution + 1, step)
    wide = [(resolution * resolution // side // step * step, side) for side in long]
    return tuple(sorted({(resolution, resolution), *wide, *(size[::-1] for size in wide)}))


def nearest_size(size: Size, sizes: Sequence[Size]) -> Size:
    """Return the size of the nearest aspect."""
    aspect = math.log(size[0] / size[1])
    return min(sizes, key=lambda other: abs(math.log(other[0] / other[1]) - aspect))
