from collections import Counter

import numpy as np
import pytest

from cnctl.training.batch_sampler import BatchSampler, SampleKey, epoch_at, hold_out


def places(count: int, *, steps: int, batch_size: int, seed: int = 0) -> list[SampleKey]:
    order = BatchSampler([0] * count, batch_size=batch_size, seed=seed)
    return [place for step in range(steps) for place in order.at(step)]


def test_each_epoch_is_a_permutation_and_no_example_is_dropped() -> None:
    shown = places(5, steps=15, batch_size=2)
    epochs = [[index for epoch, index in shown if epoch == number] for number in range(6)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert shown != places(5, steps=15, batch_size=2, seed=1)
    assert [epoch_at(step, 5, 2) for step in (0, 2, 3, 5)] == [0, 0, 1, 2]


def test_a_batch_may_be_larger_than_the_set() -> None:
    assert [epoch for epoch, _ in places(3, steps=1, batch_size=7)] == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 16])
@pytest.mark.parametrize("groups", ["aabbbcccccccccc", "abababababab", "abcd", "aaaaaaaab"])
def test_each_batch_is_what_its_group_has_waited_for(groups: str, batch_size: int) -> None:
    """Against queues that are filled example by example."""
    count, epochs = len(groups), 40
    waiting: dict[str, list[SampleKey]] = {group: [] for group in groups}
    expected = []
    for epoch in range(epochs):
        for index in np.random.default_rng([3, 0, epoch]).permutation(count):
            queue = waiting[groups[index]]
            queue.append((epoch, int(index)))
            if len(queue) == batch_size:
                expected.append(tuple(queue))
                queue.clear()
    order = BatchSampler([ord(group) for group in groups], batch_size=batch_size, seed=3)
    shown = [tuple(order.at(step)) for step in range(len(expected))]
    assert shown == expected
    assert [tuple(order.at(step)) for step in reversed(range(len(expected)))] == expected[::-1]
    assert all(len({groups[index] for _, index in batch}) == 1 for batch in shown)
    times = Counter(place for batch in shown for place in batch)
    assert max(times.values()) == 1  # a place is seen once
    assert sum(times.values()) >= epochs * count - len(set(groups)) * (batch_size - 1)


def test_hold_out_splits_by_seed() -> None:
    train, held = hold_out(100, wanted=8, seed=0)
    assert len(held) == 8
    assert sorted(train + held) == list(range(100))
    assert hold_out(100, wanted=8, seed=0) == (train, held)
    assert hold_out(100, wanted=8, seed=1)[1] != held
    assert hold_out(30, wanted=8, seed=0)[1] != []
    assert len(hold_out(30, wanted=8, seed=0)[1]) == 3
    assert hold_out(5, wanted=8, seed=0) == ([0, 1, 2, 3, 4], [])
