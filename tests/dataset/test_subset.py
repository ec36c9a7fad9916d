import pytest

from cnctl.dataset.subset import choose
from cnctl.errors import CnctlError

NAMES = [f"image{number}" for number in range(1000)]


def test_the_largest_are_taken_in_their_order() -> None:
    sizes = [9, 2, 7, 7, 1]
    assert choose(NAMES[:5], sizes.__getitem__, largest=1) == [0]
    assert choose(NAMES[:5], sizes.__getitem__, largest=3) == [0, 2, 3]


def test_samples_are_seeded_and_nested() -> None:
    def sample(count: int, seed: int = 0) -> set[int]:
        return set(choose(NAMES, lambda index: 1, sample=count, seed=seed))

    assert sample(10) < sample(100) < sample(500)
    assert len(sample(10)) == 10
    assert sample(100) == sample(100)
    assert len(sample(100) & sample(100, seed=1)) < 30
    assert 400 < sum(sample(500)) / 500 < 600


def test_an_image_is_in_by_its_name_whatever_the_others_are() -> None:
    few = choose(NAMES[::2], lambda index: 1, sample=50)
    many = choose(NAMES, lambda index: 1, sample=100)
    in_both = {NAMES[::2][index] for index in few} & {NAMES[index] for index in many}
    assert len(in_both) > 30


def test_images_of_one_size_are_ranked_at_random() -> None:
    first, second = (
        choose(NAMES, lambda index: index < 500, largest=100, seed=seed) for seed in (0, 1)
    )
    assert first != second
    assert max(first) < 500


def test_a_sample_is_taken_of_the_largest() -> None:
    assert max(choose(NAMES, lambda index: -index, largest=20, sample=5)) < 20


@pytest.mark.parametrize(("flag", "count"), [("largest", 1001), ("sample", 0)])
def test_more_than_there_are_is_refused(flag: str, count: int) -> None:
    with pytest.raises(CnctlError, match=f"--{flag} {count} of 1000 images"):
        choose(NAMES, lambda index: 1, **{flag: count})
