"""Which examples a step trains on: a function of (seed, step), whoever reads them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

ORDER, EXAMPLE, DRAWN, DROPOUT, HELD_OUT = range(5)
"""What a random stream is for; part of its seed."""

SampleKey = tuple[int, int]
"""(epoch, index) of an example: no two of a run are alike, and all that is random in it is a
function of them and the seed."""


class BatchSampler:
    """The examples of each step, all of one group: one permutation of all examples an epoch.

    groups: of each example a number; examples of one group have one size. In the order of the
    epoch's permutation each example waits until its group has filled a batch, which is then the
    next step's. So none is dropped and every batch is full: what has not filled a batch at the end
    of an epoch waits into the next. With a single group the permutations are just cut into batches.
    """

    def __init__(self, groups: Sequence[int] | np.ndarray, *, batch_size: int, seed: int) -> None:
        _, self._groups = np.unique(np.asarray(groups), return_inverse=True)
        self._counts = np.bincount(self._groups)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def at(self, step: int) -> list[SampleKey]:
        """The examples of step `step`, from 0."""
        epoch = step * self._batch_size // len(self._groups)
        while self._batches_before(epoch + 1) <= step:
            epoch += 1
        group, last = self._epoch(epoch)[1][step - self._batches_before(epoch)]
        return [self._key(group, n) for n in range(last - self._batch_size + 1, last + 1)]

    def _batches_before(self, epoch: int) -> int:
        """How many batches are full before an epoch begins."""
        return int((epoch * self._counts // self._batch_size).sum())

    def _key(self, group: int, number: int) -> SampleKey:
        """The number'th example that a group has shown since the beginning of the run."""
        epoch, position = divmod(number, int(self._counts[group]))
        return epoch, int(self._epoch(epoch)[0][group][position])

    def _make_epoch(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Each group's examples in this epoch's order; and (group, number) of the example that
        fills each of the epoch's batches, (batches, 2).
        """
        count = len(self._groups)
        order = np.random.default_rng([self._seed, ORDER, epoch]).permutation(count)
        members = [order[self._groups[order] == group] for group in range(len(self._counts))]
        numbers = np.empty(count, np.int64)
        for examples in members:
            numbers[examples] = epoch * len(examples) + np.arange(len(examples))
        fills = order[(numbers[order] + 1) % self._batch_size == 0]
        return members, np.stack([self._groups[fills], numbers[fills]], axis=1)


def epoch_at(step: int, count: int, batch_size: int) -> int:
    """The epoch, from 0, in which a run is after so many steps."""
    return step * batch_size // count


def hold_out(count: int, *, wanted: int, seed: int) -> tuple[list[int], list[int]]:
    """Split `count` examples by seed into those to train on and those to measure with.

    Never more than a tenth is held out, so that small sets may have none.
    """
    chosen = draw_held_out(count, wanted=min(wanted, count // 10), seed=seed)
    return sorted({*range(count)} - {*chosen}), chosen


def draw_held_out(count: int, *, wanted: int, seed: int) -> list[int]:
    """So many of `count` examples, or all if there are fewer, by seed."""
    order = np.random.default_rng([seed, HELD_OUT]).permutation(count)
    return sorted(order[:wanted].tolist())
