import cv2
import numpy as np
import pytest
from cnctl_conditions.scribble import (
    keep_some,
    random_scribble,
    read_drawing,
    scribble,
    suppress,
    thicken,
    thin_lines,
)
from cnctl_conditions.shared.networks import import_network

from cnctl.commands.conditions.check import check_condition
from cnctl.hints.options import check_options
from cnctl.hints.run import load_detector


@pytest.fixture
def ridge():
    """A soft vertical edge, highest in column 32, that grows stronger downwards."""
    y, x = np.mgrid[:64, :64]
    return ((180 + y) * np.exp(-(((x - 32) / 5.0) ** 2))).astype(np.uint8)


def test_scribbles_are_those_of_controlnet_aux(ridge):
    """The chain that made the released models' data: suppression, blur, threshold."""
    theirs = import_network("util", "nms")(ridge, 127, 3.0)
    assert (suppress(ridge, 127) == theirs).all()
    assert theirs.any()
    theirs = cv2.GaussianBlur(theirs, (0, 0), 3.0)
    assert (thicken(suppress(ridge, 127), 0, "disc") == np.where(theirs > 4, 255, 0)).all()


@pytest.mark.parametrize("method", ["nms", "skeleton"])
def test_a_ridge_becomes_a_thin_line_along_it(ridge, method):
    lines = thin_lines(ridge, 127, method)
    assert (lines[8:-8, 32] == 255).all()
    assert (np.count_nonzero(lines[8:-8], axis=1) <= 2).all()


def test_a_higher_threshold_keeps_fewer_lines(ridge):
    faint = (ridge * 0.3).astype(np.uint8)
    both = np.maximum(ridge, np.roll(faint, 24, axis=1))
    assert thin_lines(both, 20, "skeleton")[32, 56] == 255
    assert thin_lines(both, 127, "skeleton")[32, 56] == 0


@pytest.mark.parametrize(("width", "pixels"), [(1.0, 1), (8.0, 1), (16.0, 2), (24.0, 3)])
def test_widths_are_pixels_at_512(width, pixels):
    line = np.zeros((64, 96), np.uint8)
    line[:, 40] = 255
    for brush in ("disc", "square", "cross"):
        assert np.count_nonzero(thicken(line, width, brush)[30]) == pixels
    large = np.zeros((512, 600), np.uint8)
    large[:, 300] = 255
    assert np.count_nonzero(thicken(large, width, "square")[256]) == width


def test_strokes_are_masked_out_whole():
    lines = np.zeros((101, 60), np.uint8)
    lines[::2, 5:50] = 255  # 51 strokes
    left = keep_some(lines, 0.5, seed=3)
    rows = np.count_nonzero(left, axis=1)
    assert set(rows) == {0, 45}
    assert 15 < np.count_nonzero(rows) < 36
    assert (left <= lines).all()
    assert (keep_some(lines, 0.5, seed=3) == left).all()
    assert (keep_some(lines, 0.5, seed=4) != left).any()
    assert (keep_some(lines, 1.0, seed=3) == lines).all()
    assert not keep_some(lines, 0.0, seed=3).any()


def test_strokes_end_where_lines_cross():
    lines = np.zeros((41, 41), np.uint8)
    lines[20], lines[:, 20] = 255, 255
    arms = [lines[20, :18], lines[20, 23:], lines[:18, 20], lines[23:, 20]]
    assert all(arm.all() for arm in arms)
    for seed in range(20):
        left = keep_some(lines, 0.5, seed=seed)
        shares = [np.count_nonzero(arm) for arm in (left[20, :18], left[:18, 20])]
        assert set(shares) <= {0, 18}


@pytest.mark.parametrize("paper", [0, 255])
def test_drawings_of_either_polarity_become_white_strokes(paper):
    drawing = np.full((64, 64, 3), paper, np.uint8)
    cv2.line(drawing, (5, 9), (50, 9), (255 - paper,) * 3, 3)
    hint = load_detector(scribble)(drawing, drawing=True)
    assert (hint[9, 6:50] == 255).all()
    assert not hint[20:].any()
    assert ((hint == 255) == (drawing == 255 - paper)).all()


def test_coloured_strokes_on_white_paper_are_strokes():
    drawing = np.full((16, 16, 3), 255, np.uint8)
    drawing[4], drawing[8], drawing[12] = (255, 0, 0), (0, 90, 255), (128, 127, 255)
    strokes = read_drawing(drawing)[:, 3]
    assert strokes[[4, 8, 12]].tolist() == [255, 255, 0]


def test_an_empty_drawing_is_none_and_no_black_map():
    assert load_detector(scribble)(np.full((64, 64, 3), 255, np.uint8), drawing=True) is None


def test_training_draws_the_papers_augmentations_from_their_whole_ranges():
    rng = np.random.default_rng(0)
    drawn = [random_scribble(rng) for _ in range(1500)]
    assert all(check_options(scribble, options) for options in drawn)
    assert {options["thin"] for options in drawn} == {"nms", "skeleton"}
    assert {options["width"] for options in drawn} == set(range(1, 25))
    thresholds = [options["threshold"] for options in drawn]
    assert min(thresholds) <= 4
    assert max(thresholds) >= 251
    assert 0.47 < np.mean([options["keep"] for options in drawn]) < 0.53


@pytest.mark.slow
def test_synthesis_from_a_photo_is_seeded_and_keeps_the_contract(save_network, photo):
    def build():
        net = import_network("hed", "ControlNetHED_Apache2")()
        for number in range(1, 6):
            getattr(net, f"block{number}").projection.weight.data *= 3
            getattr(net, f"block{number}").projection.bias.data += 0.5
        net.norm.data += 110.0
        return net

    save_network(build, "ControlNetHED.pth")
    assert check_condition(scribble, image=photo[:48, :40]) == []
    detect = load_detector(scribble)
    first = detect(photo, keep=0.6, seed=1, width=8.0)
    assert set(np.unique(first)) == {0, 255}
    assert (detect(photo, keep=0.6, seed=1, width=8.0) == first).all()


def test_the_recipe_is_the_papers():
    """Section 3.5: 500k pairs, from the Canny checkpoint, 150 GPU-hours."""
    assert scribble.train.start_from == "canny"
    assert "500k" in scribble.train.recipe
    assert "150" in scribble.train.recipe
