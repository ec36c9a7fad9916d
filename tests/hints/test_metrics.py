from itertools import pairwise

import cv2
import numpy as np
import pytest

from cnctl.errors import CnctlError
from cnctl.hints.metrics import edge_f1, find_metric, rmse, score, ssim
from cnctl.plugin import Metric


def dots(*places: tuple[int, int], size: int = 128) -> np.ndarray:
    hint = np.zeros((size, size, 1), np.uint8)
    for row, column in places:
        hint[row, column] = 255
    return hint


def edges_of_random_shapes(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.full((128, 128, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(3):
        x, y, radius = (int(v) for v in rng.integers(20, 108, 3))
        cv2.circle(image, (x, y), radius // 4, rng.integers(0, 256, 3).tolist(), -1)
    return cv2.Canny(image, 50, 100)[..., None]


def test_edge_f1_allows_a_sixty_fourth_of_the_short_side() -> None:
    at = dots((50, 50))
    assert edge_f1(at, at) == 1.0
    assert edge_f1(at, dots((52, 50))) == 1.0  # 128 / 64 = 2 pixels
    assert edge_f1(at, dots((53, 50))) == 0.0
    assert edge_f1(at, dots((52, 51))) == 0.0  # the square root of 5 is more than 2
    assert edge_f1(dots((5, 5), size=32), dots((6, 5), size=32)) == 1.0  # never below one pixel


def test_edge_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    hint = dots((10, 10), (10, 60), (60, 10), (60, 60))
    found = dots((10, 10), (100, 100))
    precision, recall = 1 / 2, 1 / 4
    assert edge_f1(hint, found) == pytest.approx(2 * precision * recall / (precision + recall))


def test_empty_hints() -> None:
    empty, full = dots(), dots((3, 3))
    assert edge_f1(empty, empty) == 1.0
    assert edge_f1(empty, full) == edge_f1(full, empty) == 0.0
    assert score("edge_f1", full, None) == 0.0  # the detector found nothing


def test_any_channel_makes_an_edge() -> None:
    hint = np.zeros((64, 64, 6), np.uint8)
    hint[30, 30, 5] = 255
    assert edge_f1(hint, hint[..., ::-1]) == 1.0


def test_identity_is_perfect_and_shuffled_pairs_are_near_chance() -> None:
    hints = [edges_of_random_shapes(seed) for seed in range(12)]
    noise = list(np.random.default_rng(0).integers(0, 256, (12, 32, 32, 1), dtype=np.uint8))
    assert all(edge_f1(hint, hint) == 1 and rmse(hint, hint) == 0 for hint in hints)
    assert all(ssim(hint, hint) == pytest.approx(1) for hint in hints)
    assert np.mean([edge_f1(a, b) for a, b in pairwise(hints)]) < 0.3
    assert abs(np.mean([ssim(a, b) for a, b in pairwise(noise)])) < 0.1
    # Two independent uniform values differ by 1/6 of the squared range on average.
    assert np.mean([rmse(a, b) for a, b in pairwise(noise)]) == pytest.approx(6**-0.5, abs=0.01)


def test_ssim_is_the_mean_of_the_formula_over_windows() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (9, 8), dtype=np.uint8) for _ in range(2))
    b = (0.5 * a + 0.5 * b).astype(np.uint8)
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = (np.pad(image.astype(float), 5, mode="reflect") for image in (a, b))
    values = []
    for row in range(9):
        for column in range(8):
            p, q = (image[row : row + 11, column : column + 11] for image in (x, y))
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * p * p).sum() - mp**2, (window * q * q).sum() - mq**2
            both = (window * p * q).sum() - mp * mq
            first = (2 * mp * mq + 2.55**2) / (mp**2 + mq**2 + 2.55**2)
            values.append(first * (2 * both + 7.65**2) / (vp + vq + 7.65**2))
    assert ssim(a[..., None], b[..., None]) == pytest.approx(np.mean(values))


def test_rmse_is_in_units_of_the_full_range() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert rmse(black, white) == 1.0
    assert rmse(white, white) == 0.0
    assert not find_metric("rmse").higher_is_better


def test_a_plugin_brings_its_own_metric() -> None:
    own = Metric(name="own", score=lambda hint, detected: 0.25)
    assert score(own, dots(), dots()) == 0.25


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(CnctlError, match="unknown metric 'f2'"):
        score("f2", dots(), dots())
    with pytest.raises(ValueError, match="differ in shape"):
        score("edge_f1", dots(), dots(size=64))
