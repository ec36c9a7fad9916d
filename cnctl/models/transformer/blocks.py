"""After which blocks of a transformer the residuals of a smaller ControlNet are added."""

from __future__ import annotations

import torch
from torch import Tensor

from cnctl.models.residuals import Residuals

Blocks = tuple[tuple[int, ...], ...]


def spread(count: int, blocks: int) -> Blocks:
    """For each of so many residuals its share of the base's blocks, in order."""
    interval = blocks / count
    owners = [int(block / interval) for block in range(blocks)]
    return tuple(
        tuple(block for block, owner in enumerate(owners) if owner == number)
        for number in range(count)
    )


def in_order(
    residuals: Residuals | None, blocks: int, *, dtype: torch.dtype, first: int = 0
) -> list[Tensor] | None:
    """What is added after each of so many blocks of a base, from the block `first` on.

    A tensor without dimensions, zero, where nothing is. None where nothing is added anywhere.
    """
    if residuals is None:
        return None
    added = residuals.by_block()
    nothing = torch.zeros((), device=residuals.tensors[0].device)
    return [added.get(first + block, nothing).to(dtype) for block in range(blocks)]
