import numpy as np
import pytest
from cnctl_conditions.hed import hed, load_hed, softedge_safe, to_hint
from cnctl_conditions.shared.networks import import_network

from cnctl.hints.files import DetectorFiles
from cnctl.hints.run import load_detector


@pytest.fixture(scope="module", autouse=True)
def network(save_network):
    """HED with random weights, its side outputs scaled so that edges are neither 0 nor 1."""

    def build():
        net = import_network("hed", "ControlNetHED_Apache2")()
        for number in range(1, 6):
            getattr(net, f"block{number}").projection.weight.data *= 3
        net.norm.data += 110.0
        return net

    return save_network(build, "ControlNetHED.pth")


def test_edges_are_those_of_controlnet_aux(network, photo):
    detector = import_network("hed", "HEDdetector")(network)
    theirs = detector(photo, detect_resolution=64, image_resolution=64, output_type="np")
    ours = load_detector(hed)(photo)
    assert np.ptp(theirs) > 20
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    theirs = detector(photo, detect_resolution=64, image_resolution=64, output_type="np", safe=True)
    assert (load_detector(softedge_safe)(photo) != theirs).mean() < 0.01


def test_any_size_comes_back_at_its_own_size(network, photo):
    detect = load_hed("cpu", DetectorFiles(hed)["hed"])
    assert detect(photo[None, :61, :43]).shape == (1, 61, 43)
    assert detect(photo[None, :1, :1]).shape == (1, 1, 1)


def test_several_at_once_are_as_one_by_one(network, same_in_batches):
    same_in_batches(hed, 43)
    same_in_batches(softedge_safe)


@pytest.mark.parametrize(
    ("edge", "level"), [(0.0, 0), (0.33, 0), (0.34, 127), (0.66, 127), (0.67, 255), (1.0, 255)]
)
def test_safe_has_three_levels(edge, level):
    assert to_hint(np.array([[edge]]), safe=True).tolist() == [[level]]


def test_an_edge_is_white_and_soft():
    assert to_hint(np.array([[0.0, 0.25, 1.0]]), safe=False).tolist() == [[0, 63, 255]]


def test_the_variant_differs_in_its_default_only():
    assert hed.options["safe"].default is False
    assert softedge_safe.options["safe"].default is True
    assert softedge_safe.files == hed.files
    assert softedge_safe.hint_channels == hed.hint_channels == 3


def test_the_recipe_is_the_papers():
    """Section 3.5: 3M pairs, 300 GPU-hours, Stable Diffusion 1.5, from a fresh copy."""
    assert hed.train.recipe.startswith("3M")
    assert "300" in hed.train.recipe
    assert hed.train.start_from == ""
    assert hed.base == "stable-diffusion-v1-5/stable-diffusion-v1-5"
