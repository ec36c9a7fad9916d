"""The shipped reader sees in held-out scenes what their renderer drew."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from cnctl.hints.metrics import score
from cnctl.hints.run import hint_from_maps
from cnctl.registry import get_condition
from cnctl.tiny.reader import load_reader
from cnctl.tiny.scenes import HELD_OUT, exact_maps, render_scene

COUNT = 24


@cache
def scene_and_reading(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The maps of a held-out scene, and what the reader sees in it."""
    scene = render_scene(HELD_OUT + number, show="person" if number % 2 else None)
    return exact_maps(scene), load_reader().read(scene.image)


def agreement(name: str, *, shift: int = 0) -> float:
    """Mean fidelity of what is read in each scene to what it, or the one `shift` on, holds."""
    condition, scores = get_condition(name), []
    for number in range(COUNT):
        wanted = hint_from_maps(condition, scene_and_reading(number)[0])
        found = hint_from_maps(condition, scene_and_reading((number + shift) % COUNT)[1])
        if wanted is not None:
            scores.append(score(condition.metric, wanted, found))
    return float(np.mean(scores))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"), [("hed", 0.7), ("scribble", 0.75), ("ade20k", 0.6), ("openpose", 0.55)]
)
def test_reads_what_was_drawn(name: str, least: float) -> None:
    assert agreement(name) > least
    assert agreement(name) > agreement(name, shift=2) + 0.15


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("depth", 0.12), ("normal", 8.0)])
def test_distances_are_small(name: str, most: float) -> None:
    assert agreement(name) < most
    assert agreement(name) < 0.7 * agreement(name, shift=2)


def test_any_size_is_read() -> None:
    maps = load_reader().read(np.zeros((72, 104, 3), np.uint8))
    assert maps["labels"].shape == maps["depth"].shape == (72, 104)
    np.testing.assert_allclose(np.linalg.norm(maps["normals"], axis=-1), 1, atol=1e-5)
