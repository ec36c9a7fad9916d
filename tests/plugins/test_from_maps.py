"""Hints from what a renderer knows, beside values worked out by hand."""

import numpy as np
import pytest

from cnctl.errors import CnctlError
from cnctl.hints.run import hint_from_maps
from cnctl.registry import get_condition

SIDE = 64


def blank_maps() -> dict:
    """A wall that faces the viewer, without people, and no edges."""
    return {
        "image": np.full((SIDE, SIDE, 3), 200, np.uint8),
        "depth": np.zeros((SIDE, SIDE), np.float32),
        "normals": np.broadcast_to(np.float32([0, 0, 1]), (SIDE, SIDE, 3)).copy(),
        "labels": np.zeros((SIDE, SIDE), np.uint8),
        "names": ("wall", "person", "sky"),
        "edges": np.zeros((SIDE, SIDE), np.float32),
        "people": np.zeros((0, 18, 2), np.float32),
    }


def hint_of(name: str, maps: dict, **options) -> np.ndarray | None:
    return hint_from_maps(get_condition(name), maps, **options)


def test_near_is_bright() -> None:
    maps = blank_maps() | {"depth": np.tile(np.linspace(0.2, 0.6, SIDE, dtype=np.float32), (64, 1))}
    hint = hint_of("depth", maps)
    assert (hint[:, 0] == 0).all()
    assert (hint[:, -1] == 255).all()
    assert hint[5, SIDE // 2].tolist() == pytest.approx([129] * 3, abs=2)


@pytest.mark.parametrize(
    ("facing", "xyz"),
    [
        ((0, 0, 1), (127, 127, 255)),
        ((1, 0, 0), (0, 127, 127)),  # right: their x grows to the left
        ((0, 1, 0), (127, 255, 127)),  # up
    ],
)
def test_normals_in_either_order(facing: tuple, xyz: tuple) -> None:
    maps = blank_maps()
    maps["normals"][:] = facing
    assert hint_of("normal", maps, order="xyz")[3, 3].tolist() == list(xyz)
    assert hint_of("normal", maps, order="zyx")[3, 3].tolist() == list(xyz[::-1])


def test_normals_of_a_slope_agree_with_those_found_in_its_depth() -> None:
    from cnctl_conditions.normal import normals_of, to_hint

    across, down = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    disparity = 2 * across + 3 * down  # nearer to the right and to the bottom
    found = to_hint(normals_of(disparity, strength=1.0, background=0.0), order="xyz")[30, 30]
    maps = blank_maps()
    maps["normals"][:] = np.float32([-1, 1, 1]) / np.sqrt(3)  # such a slope faces left and up
    exact = hint_of("normal", maps, order="xyz")[30, 30]
    assert ((found > 127) == (exact > 127)).all()


def test_labels_wear_the_colours_of_their_names() -> None:
    maps = blank_maps()
    maps["labels"][0, 0], maps["labels"][0, 1] = 1, 2
    hint = hint_of("ade20k", maps)
    assert hint[0, :3].tolist() == [[150, 5, 61], [6, 230, 230], [120, 120, 120]]


def test_soft_edges_keep_their_strength() -> None:
    maps = blank_maps()
    maps["edges"][10] = 0.5
    assert hint_of("hed", maps)[9:12, 0, 0].tolist() == [0, 127, 0]
    assert hint_of("softedge-safe", maps)[10, 0, 0] == 127


def test_scribbles_run_along_the_edges() -> None:
    maps = blank_maps()
    maps["edges"][30:33] = [[0.5], [1.0], [0.5]]
    hint = hint_of("scribble", maps, width=24.0, brush="square")[..., 0]
    rows = np.flatnonzero(hint[:, SIDE // 2])
    assert set(np.unique(hint)) == {0, 255}
    assert abs(rows.mean() - 31) <= 1
    assert len(rows) == pytest.approx(24 * SIDE / 512, abs=1)
    assert hint_of("scribble", blank_maps()) is None


def test_people_are_drawn_where_they_are() -> None:
    maps = blank_maps()
    person = np.full((18, 2), 50, np.float32)
    person[0] = 12, 20  # the nose, red
    hint = hint_of("openpose", maps | {"people": person[None]})
    assert hint[20, 12].tolist() == [255, 0, 0]
    assert hint_of("pose", maps | {"people": person[None]})[20, 12].tolist() == [255, 0, 0]
    assert hint_of("openpose", maps) is None


def test_straight_lines_of_a_square() -> None:
    maps = blank_maps()
    maps["image"][16:48, 16:48] = 20
    hint = hint_of("hough", maps)[..., 0]
    rows, columns = np.nonzero(hint)
    assert len(rows) > 60
    sides = (abs(rows - 16) <= 2) | (abs(rows - 48) <= 2) | (abs(columns - 16) <= 2)
    assert (sides | (abs(columns - 48) <= 2)).all()


def test_a_condition_that_reads_no_maps_says_so() -> None:
    with pytest.raises(CnctlError, match="canny does not read a renderer's maps"):
        hint_of("canny", blank_maps())


@pytest.mark.parametrize("name", ["hed", "lineart", "cartoon"])
def test_a_line_drawing_of_a_drawn_scene_is_its_outlines(name: str) -> None:
    maps = blank_maps()
    maps["edges"][10], maps["edges"][20] = 1.0, 0.5
    hint = hint_of(name, maps)
    assert [hint[row, 5].tolist() for row in (9, 10, 20)] == [[0] * 3, [255] * 3, [127] * 3]
