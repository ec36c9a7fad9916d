"""Poses in every form of JSON that people have are one drawing."""

from typing import Any

import numpy as np
import pytest
from cnctl_conditions.openpose import openpose
from cnctl_conditions.shared.pose_json import FROM_BODY_25, read_pose
from cnctl_conditions.shared.skeleton import draw_pose

from cnctl.errors import CnctlError
from cnctl.hints.ready import draw_hint

WIDTH, HEIGHT = 160, 128
PLACES = [(80 + 4 * i * (-1) ** i, 10 + 6 * i) for i in range(18)]
HIDDEN = 4
CANVAS = {"canvas_width": WIDTH, "canvas_height": HEIGHT}


def pixels(*, hidden: tuple[float, float, float] = (0, 0, 0)) -> list[float]:
    rows = [(x, y, 1) for x, y in PLACES]
    rows[HIDDEN] = hidden
    return [value for row in rows for value in row]


def shares(*, hidden: tuple[float, float, float] = (0, 0, 0)) -> list[float]:
    rows = [(x / WIDTH, y / HEIGHT, 1) for x, y in PLACES]
    rows[HIDDEN] = hidden
    return [value for row in rows for value in row]


def document(points: list[float], **canvas: Any) -> dict[str, Any]:
    return {**(canvas or CANVAS), "people": [{"pose_keypoints_2d": points}]}


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found != expected).any(axis=2).mean() < 0.005  # rounding of shares
    assert found.any()


@pytest.mark.parametrize("hidden", [(0, 0, 0), (-1, -1, 0), (-5, 9, 0)])
def test_hidden_points_do_not_make_shares_pixels(hidden: tuple[float, float, float]) -> None:
    found = draw_pose(document(shares(hidden=hidden)))
    assert_same(found, draw_pose(document(pixels())))


def test_a_share_outside_of_the_frame() -> None:
    outside = (1.05, -0.1, 1)
    in_pixels = (1.05 * WIDTH, -0.1 * HEIGHT, 1)
    found = draw_pose(document(shares(hidden=outside)))
    assert_same(found, draw_pose(document(pixels(hidden=in_pixels))))


def test_openposes_25_points() -> None:
    rows: list[tuple[float, float, float]] = [(3, 3, 1)] * 25  # the middle of the hips, feet
    for place, number in zip(PLACES, FROM_BODY_25, strict=True):
        rows[number] = (*place, 1)
    rows[FROM_BODY_25[HIDDEN]] = (0, 0, 0)
    found = draw_pose(document([value for row in rows for value in row]))
    assert np.array_equal(found, draw_pose(document(pixels())))


@pytest.mark.parametrize("nested", [False, True])
def test_the_first_editors_list_of_points(nested: bool) -> None:
    points = [[x, y] for x, y in PLACES]
    data = {"width": WIDTH, "height": HEIGHT, "keypoints": [points] if nested else points}
    whole = [value for x, y in PLACES for value in (x, y, 1)]
    assert np.array_equal(draw_pose(data), draw_pose(document(whole)))


def test_each_person_of_the_first_editors() -> None:
    points = [[x, y] for x, y in PLACES]
    assert len(read_pose({"width": 9, "height": 9, "keypoints": points * 2}).people) == 2


def test_a_pose_without_a_canvas_is_one_line() -> None:
    with pytest.raises(CnctlError, match="has no canvas_width") as caught:
        draw_hint(openpose, {"version": 1.3, "people": [{"pose_keypoints_2d": pixels()}]})
    assert "canvas_height" in caught.value.hint


@pytest.mark.parametrize("data", [[], 3, "people"])
def test_what_is_not_a_pose_is_refused(data: Any) -> None:
    with pytest.raises(CnctlError, match="not the JSON of a pose"):
        draw_hint(openpose, data)
