import numpy as np
import pytest
import torch
from cnctl_conditions.lineart import build_anime2sketch, cartoon, lineart, white_on_black
from cnctl_conditions.shared.networks import import_network

from cnctl.commands.conditions.check import check_condition
from cnctl.hints.run import load_detector


def generator():
    return import_network("lineart", "Generator")(3, 1, 3)


def test_black_lines_become_white():
    drawing = torch.tensor([[1.0, 0.0, 0.5, 9.0]])
    assert white_on_black(drawing, size=(1, 3)).tolist() == [[0, 255, 128]]


@pytest.fixture(scope="module")
def networks(save_network):
    coarse = save_network(lambda: generator().apply(_scale), "sk_model2.pth")
    return save_network(generator, "sk_model.pth"), coarse


def _scale(module):
    if isinstance(module, torch.nn.Conv2d):
        module.weight.data *= 2


def test_lineart_is_that_of_controlnet_aux(networks, photo):
    """Fine and coarse, and 60 rows where the network needs multiples of 4."""
    detector = import_network("lineart", "LineartDetector")(*networks)
    detect = load_detector(lineart)
    for coarse in (False, True):
        theirs = detector(
            photo, coarse=coarse, detect_resolution=64, image_resolution=64, output_type="np"
        )
        ours = detect(photo, coarse=coarse)
        assert np.ptp(theirs) > 5
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert (detect(photo) != detect(photo, coarse=True)).any()


@pytest.mark.slow
def test_lineart_keeps_the_contract_at_any_size(networks):
    assert check_condition(lineart) == []


def test_several_at_once_are_as_one_by_one(networks, same_in_batches):
    same_in_batches(lineart, 43)
    same_in_batches(lineart, coarse=True)


@pytest.mark.slow
def test_cartoon_lines_are_those_of_controlnet_aux(save_network, same_in_batches):
    """Half precision makes the file of random weights small; names are as in parallel runs."""

    def build():
        return build_anime2sketch()().half()

    network = save_network(build, "netG.pth", rename=lambda name: f"module.{name}").float()
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    detector = import_network("lineart_anime", "LineartAnimeDetector")(network)
    theirs = detector(image, detect_resolution=256, image_resolution=256, output_type="np")
    detect = load_detector(cartoon)
    assert np.ptp(theirs) > 5
    assert np.abs(detect(image).astype(int) - theirs.astype(int)).max() <= 1
    assert detect(image[:40, :56]).shape == (40, 56, 3)
    same_in_batches(cartoon, 43)


def test_the_recipe_of_cartoon_is_the_papers():
    """Section 3.5: the top 1M pairs, 300 GPU-hours, on Waifu Diffusion."""
    assert "waifu" in cartoon.base
    assert "1M" in cartoon.train.recipe
    assert "300" in cartoon.train.recipe
