from functools import cache

import numpy as np
import pytest

from cnctl.data.mirror import mirror_maps
from cnctl.hints.run import hint_from_maps
from cnctl.plugin import mirror
from cnctl.registry import condition_names, get_condition
from cnctl.tiny.scenes import exact_maps, render_scene

DRAWN = [n for n in condition_names() if get_condition(n).from_maps and get_condition(n).flip]


@cache
def maps(seed: int) -> dict:
    return exact_maps(render_scene(seed, size=64))


@pytest.mark.parametrize("name", DRAWN)
def test_the_flipped_hint_is_the_hint_of_the_flipped_picture(name: str) -> None:
    """Two ways to one hint: mirror what is known of the scene, or the hint that was made of it."""
    condition = get_condition(name)
    assert condition.flip is not None
    for seed in range(3):
        plain, mirrored = (
            hint_from_maps(condition, m) for m in (maps(seed), mirror_maps(maps(seed)))
        )
        assert plain is not None
        assert mirrored is not None
        off = np.abs(condition.flip(plain).astype(int) - mirrored.astype(int))
        # Hough's segments and skeletons of strokes are found in an order of pixels, from the left.
        assert np.mean(off > 1) < (0.1 if name in ("hough", "scribble") else 1e-9)


@pytest.mark.parametrize(("name", "red_first"), [("normal-bae", True), ("normal", False)])
def test_a_normal_turns_its_x(name: str, red_first: bool) -> None:
    condition = get_condition(name)
    assert condition.flip is not None
    # From dark to light: x -1 and 1, unknown; y and z in the others.
    row = [[0, 128, 200], [255, 128, 200], [0, 0, 0]]
    expected = [[0, 0, 0], [0, 128, 200], [255, 128, 200]]
    order = slice(None) if red_first else slice(None, None, -1)
    hint = np.array([row], np.uint8)[..., order]
    np.testing.assert_array_equal(condition.flip(hint), np.array([expected])[..., order])


def test_poses_are_mirrored_in_the_maps_alone() -> None:
    """The right hand is then the left one, and is drawn in the left one's colour."""
    openpose = get_condition("openpose")
    assert openpose.flip is None
    people = np.full((1, 18, 2), np.nan, np.float32)
    people[0, [2, 3, 4]] = [(10, 20), (12, 30), (14, 40)]  # right shoulder, elbow, wrist
    people[0, [1, 5]] = [(20, 18), (30, 20)]  # neck, left shoulder
    blank = np.zeros((64, 64), np.float32)
    known = {
        "image": np.zeros((64, 64, 3), np.uint8), "depth": blank, "labels": blank, "edges": blank,
        "normals": np.zeros((64, 64, 3), np.float32), "people": people,
    }  # fmt: skip
    mirrored = mirror_maps(known)["people"][0]
    np.testing.assert_array_equal(mirrored[[5, 6, 7]], [(53, 20), (51, 30), (49, 40)])
    np.testing.assert_array_equal(mirrored[[1, 2]], [(43, 18), (33, 20)])
    assert np.isnan(mirrored[[3, 4]]).all()
    np.testing.assert_array_equal(mirror_maps(mirror_maps(known))["people"], people)


def test_a_mirror_changes_places_and_nothing_else() -> None:
    hint = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(mirror(hint)[:, 0], hint[:, 3])
    np.testing.assert_array_equal(mirror(mirror(hint)), hint)
