"""The recipe's scores have known answers."""

import numpy as np
import pytest

from cnctl.tiny.pictures import to_tensor
from cnctl.tiny.scenes import HELD_OUT, render_scene
from examples.tiny.dataset import to_pictures
from examples.tiny.scores import edge_f1, edges, psnr


def test_pictures_survive_the_way_to_tensors_and_back():
    picture = render_scene(HELD_OUT).image
    assert np.array_equal(to_pictures(to_tensor(picture[None]))[0], picture)


def test_scores_have_their_known_answers():
    picture = render_scene(HELD_OUT).image
    found = edges(picture)
    assert edge_f1(found, found, tolerance=1) == pytest.approx(1)
    assert edge_f1(found, np.zeros_like(found), tolerance=1) == 0
    flat = np.zeros((8, 8, 3), np.uint8)
    assert psnr(flat, flat + 255) == pytest.approx(0)
    assert psnr(flat, flat + 1) == pytest.approx(48.13, abs=0.01)
