from cnctl.core.batches import epoch_at, examples_at, hold_out


def test_each_epoch_is_a_permutation_and_no_example_is_dropped() -> None:
    places = [
        place for step in range(15) for place in examples_at(step, count=5, batch_size=2, seed=0)
    ]
    epochs = [[index for epoch, index in places if epoch == number] for number in range(6)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert places != [p for s in range(15) for p in examples_at(s, count=5, batch_size=2, seed=1)]
    assert [epoch_at(step, 5, 2) for step in (0, 2, 3, 5)] == [0, 0, 1, 2]


def test_a_batch_may_be_larger_than_the_set() -> None:
    assert [e for e, _ in examples_at(0, count=3, batch_size=7, seed=0)] == [0, 0, 0, 1, 1, 1, 2]


def test_hold_out_splits_by_seed() -> None:
    train, held = hold_out(100, wanted=8, seed=0)
    assert len(held) == 8
    assert sorted(train + held) == list(range(100))
    assert hold_out(100, wanted=8, seed=0) == (train, held)
    assert hold_out(100, wanted=8, seed=1)[1] != held
    assert hold_out(30, wanted=8, seed=0)[1] != []
    assert len(hold_out(30, wanted=8, seed=0)[1]) == 3
    assert hold_out(5, wanted=8, seed=0) == ([0, 1, 2, 3, 4], [])
