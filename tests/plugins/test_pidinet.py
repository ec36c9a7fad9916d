import numpy as np
import pytest
import torch
from cnctl_conditions.pidinet import softedge_pidi
from cnctl_conditions.shared.networks import import_network

from cnctl.errors import CnctlError
from cnctl.hints.run import load_detector


@pytest.fixture(scope="module")
def network(save_network):
    """PiDiNet with random weights, under the names and the key of the published file."""

    def build():
        net = import_network("pidi.model", "pidinet")()
        for name, parameter in net.named_parameters():
            if name.startswith("conv_reduces"):
                parameter.data *= 20
        return net

    return save_network(build, "table5_pidinet.pth", lambda n: f"module.{n}", "state_dict")


def test_edges_are_those_of_controlnet_aux(network, photo):
    detector = import_network("pidi.__init__", "PidiNetDetector")(network)
    how = {"detect_resolution": 64, "image_resolution": 64, "output_type": "np"}
    detect = load_detector(softedge_pidi)
    theirs = detector(photo, **how)
    assert np.ptp(theirs) > 20
    assert np.abs(detect(photo).astype(int) - theirs.astype(int)).max() <= 1
    assert (detect(photo, safe=True) != detector(photo, safe=True, **how)).mean() < 0.01
    assert detect(photo[:41, :60]).shape == (41, 60, 3)


def test_several_at_once_are_as_one_by_one(network, same_in_batches):
    same_in_batches(softedge_pidi, 60)


def test_safe_maps_have_three_values(network, photo):
    assert set(np.unique(load_detector(softedge_pidi)(photo, safe=True))) <= {0, 127, 255}


def test_the_colours_reach_the_network_blue_first(network, photo):
    with torch.inference_mode():
        blue_first = torch.from_numpy(photo[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        expected = 255 * network(blue_first)[-1][0, 0].numpy()
    assert np.abs(load_detector(softedge_pidi)(photo)[..., 0] - expected).max() <= 1


def test_it_is_not_for_commercial_use(network):
    with pytest.raises(CnctlError, match="non-commercial use only"):
        load_detector(softedge_pidi, commercial=True)
