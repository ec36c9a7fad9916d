"""Scores of depth, normals, segmentation and pose, on hand-made maps with known answers."""

import cv2
import numpy as np
import pytest

from cnctl.hints.metrics import METRICS, depth_rmse, mean_iou, normal_angle, oks, pck, score


def grey(values):
    return np.repeat(np.array(values, np.uint8)[..., None], 3, axis=2)


def noise(seed, shape=(32, 48)):
    return grey(np.random.default_rng(seed).integers(0, 256, shape))


def test_depth_is_compared_up_to_scale_and_shift():
    depth = grey(np.tile(np.arange(0, 250, 10), (8, 1)))
    assert depth_rmse(depth, depth) == 0
    assert depth_rmse(depth, depth // 2 + 40) < 0.002
    assert depth_rmse(grey([[0, 100]]), grey([[7, 7]])) == pytest.approx(50 / 255)


def test_depth_the_wrong_way_round_is_no_better_than_none():
    depth = grey(np.tile(np.arange(0, 250, 10), (8, 1)))
    spread = depth[..., 0].std() / 255
    assert depth_rmse(depth, 255 - depth) == pytest.approx(spread)
    assert depth_rmse(depth, np.zeros_like(depth)) == pytest.approx(spread)
    assert depth_rmse(noise(0), noise(1)) == pytest.approx(255 / 12**0.5 / 255, rel=0.05)


def normal(x, y, z):
    return np.round(127.5 * np.array([[[x, y, z]]]) + 127.5).astype(np.uint8)


@pytest.mark.parametrize(
    ("a", "b", "degrees"),
    [
        ((0, 0, 1), (0, 0, 1), 0),
        ((0, 0, 1), (1, 0, 0), 90),
        ((0, 0, 1), (0, 0, -1), 180),
        ((0, 0, 1), (0, 0.5**0.5, 0.5**0.5), 45),
    ],
)
def test_normals_are_compared_by_their_angle(a, b, degrees):
    hint, detected = normal(*a), normal(*b)
    assert normal_angle(hint, detected) == pytest.approx(degrees, abs=1)
    assert normal_angle(hint[..., ::-1], detected[..., ::-1]) == pytest.approx(degrees, abs=1)


def test_black_holds_no_normal():
    front, black = normal(0, 0, 1), np.zeros((1, 1, 3), np.uint8)
    assert normal_angle(np.hstack([front, black]), np.hstack([front, front])) < 1
    assert normal_angle(front, black) == pytest.approx(90)
    assert normal_angle(black, front) == 0


def test_random_normals_are_a_right_angle_apart():
    vectors = np.random.default_rng(0).normal(size=(2, 64, 64, 3))
    vectors /= np.linalg.norm(vectors, axis=3, keepdims=True)
    a, b = np.round(127.5 * vectors + 127.5).astype(np.uint8)
    assert normal_angle(a, b) == pytest.approx(90, abs=2)


def test_iou_is_the_mean_over_colours():
    """Red: 2 of 4 pixels in common; blue: 4 of 6; green is only in one: 0."""
    red, blue, green = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    hint = np.array([[red, red, red, blue, blue, blue, blue]], np.uint8)
    detected = np.array([[red, red, green, blue, blue, blue, blue]], np.uint8)
    assert mean_iou(hint, detected) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert mean_iou(hint, hint) == 1
    assert mean_iou(hint, np.zeros_like(hint)) == 0


def test_shuffled_labels_agree_by_chance():
    """Two labels at even odds: a quarter of the pixels in common of three quarters."""
    a, b = np.random.default_rng(0).integers(0, 2, (2, 200, 200)) * 255
    assert mean_iou(grey(a), grey(b)) == pytest.approx(1 / 3, abs=0.01)


def figure(offset=0, *, missing=()):
    """Three points in three colours on dim limbs, 80 pixels high."""
    canvas = np.zeros((100, 100, 3), np.uint8)
    cv2.line(canvas, (50 + offset, 10), (50 + offset, 89), (153, 51, 0), 5)
    points = {(255, 0, 0): 10, (255, 85, 0): 50, (255, 170, 0): 89}
    for number, (colour, y) in enumerate(points.items()):
        if number not in missing:
            cv2.circle(canvas, (50 + offset, y), 4, colour, -1)
    return canvas


def test_key_points_count_within_a_twentieth_of_the_short_side():
    assert pck(figure(), figure()) == 1
    assert pck(figure(), figure(5)) == 1
    assert pck(figure(), figure(6)) == 0
    assert pck(figure(), figure(missing=[1])) == pytest.approx(2 / 3)
    assert pck(figure(), np.zeros_like(figure())) == 0
    assert pck(np.zeros_like(figure()), np.zeros_like(figure())) == 1


def test_oks_falls_with_the_distance_as_coco_says():
    """Box 1 x 80, constant 0.067: exp(-d^2 / (2 * 80 * 0.134^2)) for a shift by d."""
    assert oks(figure(), figure()) == 1
    assert oks(figure(), figure(1)) == pytest.approx(np.exp(-1 / (2 * 80 * 0.134**2)), abs=1e-6)
    assert oks(figure(), figure(30)) < 0.01


@pytest.mark.parametrize("name", sorted(METRICS))
def test_equal_hints_are_perfect_and_nothing_detected_is_not(name):
    hint = figure()
    perfect = score(name, hint, hint)
    assert perfect == pytest.approx(1 if METRICS[name].higher_is_better else 0, abs=1e-4)
    nothing = score(name, hint, None)
    assert nothing < 1 if METRICS[name].higher_is_better else nothing > 0


def people(seed):
    """Three points at random places, in the colours of `figure`."""
    canvas = np.zeros((100, 100, 3), np.uint8)
    for colour, (x, y) in zip(
        [(255, 0, 0), (255, 85, 0), (255, 170, 0)],
        np.random.default_rng(seed).integers(8, 92, (3, 2)).tolist(),
        strict=True,
    ):
        cv2.circle(canvas, (x, y), 3, colour, -1)
    return canvas


@pytest.mark.slow
def test_shuffled_poses_agree_by_chance():
    """A point at random in 84 x 84 pixels falls into a circle of radius 5 with odds of 1 in 90."""
    pairs = [(people(2 * i), people(2 * i + 1)) for i in range(300)]
    assert all(pck(a, a) == 1 and oks(a, a) == pytest.approx(1) for a, _ in pairs[:20])
    assert np.mean([pck(*pair) for pair in pairs]) == pytest.approx(25 * np.pi / 84**2, abs=0.01)
    assert np.mean([oks(*pair) for pair in pairs]) < 0.05
