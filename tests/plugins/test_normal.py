import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cnctl_conditions.normal import (
    normal,
    normal_bae,
    normal_diode,
    normals_of,
    read_diode,
    to_hint,
)
from cnctl_conditions.shared.networks import import_network, quiet
from PIL import Image

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.run import annotate
from cnctl.commands.shared.known_controls import known_weights
from cnctl.errors import CnctlError
from cnctl.hints.run import load_detector
from cnctl.images import read_hint


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
    sources = [weights.source for weights in known_weights(normal)]
    assert set(sources) == {"lllyasviel/sd-controlnet-normal", "tiny/normal"}


def test_normals_of_a_photo(detectors, photo, folders, same_in_batches):
    folders.dpt_hybrid(detectors / "Intel" / "dpt-hybrid-midas")
    detect = load_detector(normal)
    hint = detect(photo, background=0.0)
    assert (detect(photo, background=0.0, order="xyz") == hint[..., ::-1]).all()
    length = np.linalg.norm(hint / 127.5 - 1, axis=2)
    assert np.abs(length - 1).max() < 0.02
    assert (detect(photo, background=1.0)[..., 0] == 255).mean() > 0.9
    same_in_batches(normal, 61)


@pytest.fixture(scope="module")
def bae(save_network):
    """Half precision, so that the file of random weights is small; wrapped as the published one."""

    def build():
        settings = SimpleNamespace(architecture="BN", sampling_ratio=0.4, importance_ratio=0.7)
        network = import_network("normalbae.nets.NNET", "NNET")
        with quiet():
            built = network(settings)
        for module in built.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.data *= 0.6  # else its many layers grow beyond all numbers
        return built.half()

    return save_network(build, "scannet.pt", lambda name: f"module.{name}", "model").float()


@pytest.mark.slow
def test_normals_by_bae_are_those_of_controlnet_aux(bae, photo, capsys, same_in_batches):
    """Blue to the viewer, red to the left, green up: the order that ControlNet 1.1 reads."""
    detector = import_network("normalbae.__init__", "NormalBaeDetector")(bae)
    theirs = detector(photo, detect_resolution=64, image_resolution=64, output_type="np")
    capsys.readouterr()
    detect = load_detector(normal_bae)
    ours = detect(photo)
    assert capsys.readouterr() == ("", ""), "the network's greetings are kept to itself"
    assert np.ptp(theirs) > 50
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert (detect(photo, order="zyx") == ours[..., ::-1]).all()
    assert detect(photo[:40, :61]).shape == (40, 61, 3)
    same_in_batches(normal_bae, 61)


def test_what_was_trained_on_research_data_is_not_for_commercial_use(bae):
    with pytest.raises(CnctlError, match="non-commercial use only"):
        load_detector(normal_bae, commercial=True)


def diode(*normals):
    """A map of DIODE's size with these normals from its middle to the right."""
    values = np.zeros((768, 1024, 3), np.float32)
    values[384, 512 : 512 + len(normals)] = normals
    return values


def test_diode_looks_right_up_and_at_the_viewer_and_hints_look_left():
    """127.5 (n + 1), cut: (0.6, 0, 0.8) faces right and the viewer."""
    front, right, up = (0, 0, 1), (0.6, 0, 0.8), (0, 0.6, 0.8)
    values = diode(front, right, up)
    hint = read_diode(values, order="xyz")[384, 512:515]
    expected = [[127.5, 127.5, 255], [51, 127.5, 229.5], [127.5, 204, 229.5]]
    assert hint == pytest.approx(np.array(expected), abs=1)
    assert (read_diode(values, order="zyx")[384, 512:515] == hint[:, ::-1]).all()
    assert (read_diode(2 * values, order="xyz")[384, 512:515] == hint).all(), "of any length"


def test_diode_normals_without_direction_face_the_camera():
    """A wall at the left edge may face right and still away from the picture's plane."""
    values = diode((0, 0, -1))
    wall = np.array([0.99, 0, -0.1]) / np.hypot(0.99, 0.1)
    values[384, 0], values[384, 1], values[384, 1023] = wall, -wall, wall
    hint = read_diode(values, order="xyz")[384]
    assert hint[512].tolist() == [127, 127, 255]
    assert hint[0].tolist() == hint[1].tolist() == [0, 127, 114]
    assert hint[1023].tolist() == [254, 127, 140], "at the right edge the same wall faces left"


def test_diode_pixels_without_a_normal_are_black():
    hint = read_diode(diode((0, 0, 1), (np.nan, 0, 1), (0, 0, 0)), order="xyz")[384, 512:515]
    assert hint.tolist() == [[127, 127, 255], [127, 127, 255], [0, 0, 0]]
    assert not read_diode(diode((np.nan,) * 3), order="xyz").any()
    assert read_diode(np.zeros((4, 4, 3), np.uint8), order="xyz") is None, "a hint already"
    assert read_diode(np.zeros((4, 4), np.float32), order="xyz") is None, "depth"


def test_diode_makes_a_training_set(tmp_path):
    Image.new("RGB", (64, 48), "grey").save(tmp_path / "00_indoors_000.png")
    values = np.tile(np.array([0, 0, 1], np.float32), (48, 64, 1))
    values[:, :32] = 0
    np.save(tmp_path / "00_indoors_000_normal.npy", values)
    annotate(
        AnnotateRequest(
            conditions="normal-diode",
            inputs=[tmp_path],
            out=tmp_path / "set",
            resolution=24,
            ground_truth=tmp_path,
        )
    )
    hint = read_hint(tmp_path / "set/00_indoors_000-normal-diode.png", channels=3)
    assert (hint[:, :16] == 0).all()
    assert (hint[:, 16:] == [255, 127, 127]).all(), "z, y, x, as ControlNet 1.0's"


def test_the_recipes_are_the_papers():
    """Section 3.5: DIODE, 25,452 pairs, 100 GPU-hours; then MiDaS from there, 200 GPU-hours."""
    for fact in ("25,452", "100 A100", "DIODE", "BLIP"):
        assert fact in normal_diode.train.recipe
    assert "200 A100" in normal.train.recipe
    assert (normal_diode.train.start_from, normal.train.start_from) == ("", "normal-diode")
