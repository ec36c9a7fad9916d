"""Training sets of pairs: only what the prompt names changes, and orders of normals alternate."""

import numpy as np

from cnctl.data.open import open_dataset
from cnctl.tiny.captions import vocabulary
from examples.tiny.free_shapes import free_picture
from examples.tiny.pairs import (
    PLAIN,
    edited,
    with_free_shapes,
    with_normals,
    write_pairs,
)

SEEDS = range(24)


def test_a_change_of_colour_leaves_the_backdrop() -> None:
    """A corner is backdrop."""
    for seed in SEEDS:
        pair = edited(seed)
        corner = (pair.image[:8, :8] == pair.hint[:8, :8]).all()
        if pair.prompt.startswith("make"):
            assert corner
        elif pair.prompt.startswith("put it"):
            assert not corner
        assert np.abs(pair.image.astype(int) - pair.hint).mean() > 1


def test_an_order_ends_in_words_that_the_text_encoder_has_learned() -> None:
    orders = [edited(seed).prompt for seed in SEEDS]
    assert {order.split()[-1] for order in orders} <= set(vocabulary())
    assert {order.split()[0] for order in orders} >= {"make", "put", "a"}


def test_normals_of_either_order_can_be_told_apart() -> None:
    """Surfaces that are seen face the viewer: z is positive, in blue for xyz and in red for zyx."""
    for seed in range(6):
        hint = with_normals(seed).hint
        assert hint[..., 2 if seed % 2 else 0].min() >= 127


def test_the_folder_is_a_data_set(tmp_path) -> None:
    write_pairs(tmp_path, edited, 2)
    dataset = open_dataset(tmp_path)
    assert len(dataset) == dataset.ready_hints == 2
    example, pair = dataset[1], edited(1)
    np.testing.assert_array_equal(example.image, pair.image)
    np.testing.assert_array_equal(example.hint, pair.hint)
    assert example.prompt == pair.prompt


def test_free_shapes_have_no_hint_and_scenes_are_among_them(tmp_path) -> None:
    write_pairs(tmp_path, with_free_shapes, 6)
    dataset = open_dataset(tmp_path)
    assert (len(dataset), dataset.ready_hints) == (6, 0)
    prompts = [dataset[i].prompt for i in range(6)]
    assert [prompt == PLAIN for prompt in prompts] == [False, True, True] * 2
    np.testing.assert_array_equal(dataset[1].image, free_picture(1))
