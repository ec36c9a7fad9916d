import numpy as np
import pytest
from cnctl_conditions.hough import decode, draw_lines, hough
from cnctl_conditions.shared.networks import import_network

from cnctl.commands.conditions.check import check_plugin
from cnctl.errors import CnctlError, MissingError
from cnctl.hints.ready import draw_hint
from cnctl.hints.run import load_detections, load_detector


@pytest.fixture(scope="module")
def network(save_network):
    """M-LSD with random weights, its last layer scaled so that lines differ in score and length."""

    def build():
        net = import_network("mlsd.models.mbv2_mlsd_large", "MobileV2_MLSD_Large")()
        net.block23.conv3.weight.data *= 40
        return net

    return save_network(build, "mlsd_large_512_fp32.pth")


def box():
    image = np.full((72, 100, 3), 30, np.uint8)
    image[16:48, 24:72] = (220, 60, 40)
    return image


def test_lsd_finds_the_four_sides_of_a_box():
    found = load_detections(hough)(box(), method="lsd")
    left, right, top, bottom = 24, 72, 16, 48
    expected = [
        [left, top, right, top],
        [left, bottom, right, bottom],
        [left, top, left, bottom],
        [right, top, right, bottom],
    ]
    assert len(found.data["lines"]) == 4
    for side in expected:
        turned = side[2:] + side[:2]
        errors = [
            np.abs(np.subtract(found.data["lines"], line)).max(axis=1) for line in (side, turned)
        ]
        assert np.min(errors) < 1.6


def test_hint_is_drawn_from_the_data_and_can_be_drawn_again():
    found = load_detections(hough)(box(), method="lsd")
    assert (draw_hint(hough, found.data) == found.hint).all()
    assert set(np.unique(found.hint)) == {0, 255}


def test_a_line_is_drawn_one_pixel_wide():
    hint = draw_lines({"width": 8, "height": 5, "lines": [[1, 2, 6.9, 2]]})
    assert (hint[2] == [0, 255, 255, 255, 255, 255, 255, 0]).all()
    assert not hint[[0, 1, 3, 4]].any()


def test_nothing_found_is_none_and_no_black_map():
    assert load_detector(hough)(np.full((64, 64, 3), 99, np.uint8), method="lsd") is None


def test_shorter_lines_are_dropped():
    lengths = []
    for distance in (0.1, 20.0):
        lines = np.array(
            load_detections(hough)(box(), method="lsd", distance=distance).data["lines"]
        )
        lengths.append(np.hypot(*(lines[:, 2:] - lines[:, :2]).T))
    assert lengths[0].min() < 40 < lengths[1].min()


def test_middles_and_offsets_become_lines():
    """One middle at (x 10, y 5) of the half-size map, ends at (-4, -2) and (+6, +1) from it."""
    maps = np.full((9, 16, 24), -9.0, np.float32)
    maps[1:] = 0
    maps[0, 5, 10] = 0.0
    maps[0, 5, 11] = -0.5  # a neighbour of a larger one is not a middle
    maps[1:5, 5, 10] = (-4, -2, 6, 1)
    lines, scores = decode(maps, 0.1)
    assert lines.tolist() == [[12, 6, 32, 12]]
    assert scores.tolist() == [0.5]


def test_mlsd_gives_the_lines_of_controlnet_aux(network, photo):
    """The same random weights in the code that the released ControlNets' data were made with."""
    pred_lines = import_network("mlsd.utils", "pred_lines")
    theirs = pred_lines(photo, network, [64, 64], 0.1, 0.1)
    ours = np.array(load_detections(hough)(photo, score=0.1, distance=0.1).data["lines"])
    assert 5 < len(ours) < 200
    assert ours.shape == theirs.shape
    apart = np.abs(ours[:, None] - theirs[None]).max(axis=2)
    assert apart.min(axis=0).max() < 0.02
    assert apart.min(axis=1).max() < 0.02


def test_any_size_and_every_option_keep_the_contract(network):
    assert check_plugin("hough") == []


def test_without_weights_one_line_says_how_to_get_them_or_do_without(monkeypatch, tmp_path):
    monkeypatch.setenv("CNCTL_DETECTORS", str(tmp_path))
    detect = load_detector(hough)
    with pytest.raises(MissingError, match=r"mlsd_large_512_fp32\.pth of") as e:
        detect(box())
    assert "lllyasviel/Annotators (6 MB; Apache-2.0)" in str(e.value)
    assert "cnctl models pull hough" in e.value.hint
    assert "method=lsd" in e.value.hint
    assert detect(box(), method="lsd") is not None


def test_data_that_are_no_lines_are_refused():
    with pytest.raises(CnctlError, match="could not draw"):
        draw_hint(hough, {"width": 8})


def test_the_recipe_is_the_papers():
    """Section 3.5: 600k pairs of Places2, from the Canny checkpoint, 150 GPU-hours, SD 1.5."""
    assert hough.train.start_from == "canny"
    assert "600k" in hough.train.recipe
    assert "150" in hough.train.recipe
    assert hough.base == "stable-diffusion-v1-5/stable-diffusion-v1-5"
