import math

import numpy as np
import pytest
from cnctl_conditions.normal import normal, normals_of, to_hint

from cnctl.hints import load_detector


def test_a_ramp_of_depth_has_known_normals():
    """Disparity that grows by 1 per pixel to the right: Sobel gives 8, so (8, 0, 2 pi)."""
    ramp = np.tile(np.arange(16.0), (12, 1))
    normals = normals_of(ramp, strength=2 * math.pi, background=0.0)
    length = math.hypot(8, 2 * math.pi)
    assert normals[6, 8] == pytest.approx([8 / length, 0, 2 * math.pi / length])
    assert normals_of(ramp.T, strength=2 * math.pi, background=0.0)[8, 6] == pytest.approx(
        [0, 8 / length, 2 * math.pi / length]
    )


def test_a_plane_faces_the_viewer_and_gives_no_nan():
    hint = to_hint(normals_of(np.full((8, 8), 5.0), strength=6.0, background=0.4), order="xyz")
    assert (hint == [127, 127, 255]).all()


def test_the_background_faces_the_viewer():
    ramp = np.tile(np.arange(11.0), (9, 1))
    normals = normals_of(ramp, strength=1.0, background=0.45)
    assert (normals[:, :5] == [0, 0, 1]).all()
    assert (normals[:, 6:10, 0] > 0.9).all()


def test_the_order_of_channels_is_that_of_the_weights():
    """ControlNet 1.0 was trained on z, y, x as red, green, blue; 1.1 on x, y, z."""
    towards_left = np.array([[[1.0, 0.0, 0.0]]])
    assert to_hint(towards_left, order="xyz").tolist() == [[[255, 127, 127]]]
    assert to_hint(towards_left, order="zyx").tolist() == [[[127, 127, 255]]]
    assert normal.options["order"].default == "zyx"
    assert [weights.source for weights in normal.weights] == ["lllyasviel/sd-controlnet-normal"]


def test_normals_of_a_photo(detectors, photo, folders):
    folders.dpt_hybrid(detectors / "Intel" / "dpt-hybrid-midas")
    detect = load_detector(normal)
    hint = detect(photo, background=0.0)
    assert (detect(photo, background=0.0, order="xyz") == hint[..., ::-1]).all()
    length = np.linalg.norm(hint / 127.5 - 1, axis=2)
    assert np.abs(length - 1).max() < 0.02
    assert (detect(photo, background=1.0)[..., 0] == 255).mean() > 0.9


def test_the_recipe_is_the_papers():
    """Section 3.5: DIODE, 25,452 pairs, 100 GPU-hours; then MiDaS, 200 GPU-hours."""
    for fact in ("25,452", "100 A100", "200 A100", "DIODE", "BLIP"):
        assert fact in normal.train.recipe
