"""After which blocks of a transformer the residuals of a smaller ControlNet are added."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from cnctl.models.residuals import Residual, Residuals

Blocks = tuple[tuple[int, ...], ...]


def spread(count: int, blocks: int) -> Blocks:
    """For each of so many residuals its share of the base's blocks, in order."""
    interval = blocks / count
    return owned([int(block / interval) for block in range(blocks)], count)


def spread_evenly(count: int, blocks: int, *, first: int = 0) -> Blocks:
    """As many blocks for each residual, from the block `first` on; the last may have less."""
    if not count:
        return ()
    interval = math.ceil(blocks / count)
    return owned([block // interval for block in range(blocks)], count, first=first)


def owned(owners: Sequence[int], count: int, *, first: int = 0) -> Blocks:
    """The blocks of each residual. owners: block, counted from `first` -> residual."""
    return tuple(
        tuple(first + block for block, owner in enumerate(owners) if owner == number)
        for number in range(count)
    )


def in_order(
    residuals: Residuals | None, blocks: int, *, dtype: torch.dtype, first: int = 0
) -> list[Residual] | None:
    """What is added after each of so many blocks of a base, from the block `first` on.

    A tensor without dimensions, zero, where nothing is. None where nothing is added anywhere.
    """
    if residuals is None:
        return None
    added = residuals.by_block()
    nothing = torch.zeros((), dtype=dtype)
    return [added.get(first + block, nothing).to(dtype) for block in range(blocks)]
