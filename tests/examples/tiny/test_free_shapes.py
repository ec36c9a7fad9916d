"""Pictures of nothing in particular: a function of their seed, with edges everywhere."""

import cv2
import numpy as np

from cnctl.tiny.scenes import soft_edges
from examples.tiny.free_shapes import free_picture

PICTURES = [free_picture(seed) for seed in range(40)]


def test_a_picture_is_a_function_of_its_seed() -> None:
    np.testing.assert_array_equal(free_picture(3), PICTURES[3])
    assert len({picture.tobytes() for picture in PICTURES}) == len(PICTURES)
    assert all(picture.shape == (128, 128, 3) for picture in PICTURES)
    assert all(picture.dtype == np.uint8 for picture in PICTURES)


def test_edges_lie_everywhere_and_of_every_density() -> None:
    edges = np.stack([soft_edges(cv2.Canny(picture, 100, 200)) for picture in PICTURES])
    assert edges.min() >= 0
    assert edges.max() == 1
    assert (edges.mean(axis=0).reshape(8, 16, 8, 16).mean(axis=(1, 3)) > 0.02).all()
    densities = edges.mean(axis=(1, 2))
    assert np.quantile(densities, 0.9) > 3 * np.quantile(densities, 0.1)
