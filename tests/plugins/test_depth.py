import numpy as np
import pytest
import torch
from cnctl_conditions.depth import (
    depth,
    depth_anything,
    depth_zoe,
    load_estimator,
    near_is_bright,
)
from PIL import Image

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.run import annotate
from cnctl.commands.conditions.check import check_condition
from cnctl.errors import MissingError
from cnctl.hints.files import DetectorFiles
from cnctl.hints.run import load_detections, load_detector
from cnctl.images import read_hint
from cnctl.models.network import hint_tensor


@pytest.fixture(scope="module")
def models(detectors, folders):
    """Small models of the true classes in folders of the true names."""
    return {
        "depth": folders.dpt_hybrid(detectors / "Intel" / "dpt-hybrid-midas"),
        "depth-anything": folders.depth_anything(detectors / "Depth-Anything-V2-Small-hf"),
        "depth-zoe": folders.zoedepth(detectors / "zoedepth-nyu-kitti"),
    }


@pytest.mark.parametrize("condition", [depth, depth_anything, depth_zoe], ids=lambda c: c.name)
def test_any_size_comes_back_at_its_own_size(models, photo, condition):
    detect = load_detector(condition)
    for image in (photo, photo[:40, :61]):
        hint = detect(image)
        assert hint.shape == image.shape
        assert hint.min() == 0
        assert hint.max() == 255
        assert (hint == hint[..., :1]).all()


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        (depth, "DPTForDepthEstimation"),
        (depth_anything, "DepthAnythingForDepthEstimation"),
        (depth_zoe, "ZoeDepthForDepthEstimation"),
    ],
)
def test_several_at_once_are_as_one_by_one(models, photo, condition, kind):
    """Compare the networks' own values; random weights give ones that differ little."""
    assert load_detections(condition).takes_many
    estimate = load_estimator(kind, DetectorFiles(condition)["model"], device="cpu")
    pictures = np.stack([photo, photo[::-1], np.roll(photo, 20, axis=1)])[:, :40, :61]
    for together, picture in zip(estimate(pictures), pictures, strict=True):
        alone = estimate(picture[None])[0]
        np.testing.assert_allclose(together, alone, atol=1e-3 * np.abs(alone).max())


def test_the_contract_is_kept(models, photo):
    assert check_condition(depth, image=photo) == []


def test_the_map_is_what_the_network_says(models, photo):
    """Nothing is resized at the network's own size: mean and deviation are the processor's."""
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    values = models["depth"]((pixels - 0.5) / 0.5).predicted_depth[0].numpy()
    expected = 255 * (values - values.min()) / (values.max() - values.min())
    assert np.abs(load_detector(depth)(photo)[..., 0] - expected).max() <= 1


def test_near_is_bright():
    """Disparity is large where it is near; distance is small."""
    assert near_is_bright(np.array([[0.0, 2.0, 4.0]]), metric=False).tolist() == [[0, 127, 255]]
    distances = np.linspace(1, 11, 101)[None]
    hint = near_is_bright(distances, metric=True)[0]
    assert hint[:3].tolist() == [255, 255, 255]
    assert not hint[85:].any()
    assert hint[43] == int(255 * (85 - 43) / 83)
    assert (np.diff(hint.astype(int)) <= 0).all()


def test_sixteen_bits_keep_what_eight_would_round(models, photo, tmp_path):
    """Written as a 16-bit PNG, read as such, and seen by the network as n / 65535."""
    pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    values = models["depth"]((pixels - 0.5) / 0.5).predicted_depth[0].numpy().astype(float)
    expected = (values - values.min()) / (values.max() - values.min())
    Image.fromarray(photo).save(tmp_path / "a.png")
    annotate(
        AnnotateRequest(
            conditions="depth",
            inputs=[tmp_path / "a.png"],
            out=tmp_path / "d.png",
            resolution=64,
            options=["bits=16"],
        )
    )
    hint = read_hint(tmp_path / "d.png", channels=3)
    assert hint.dtype == np.uint16
    assert np.unique(hint).size > 1000
    read = hint_tensor([hint, (hint >> 8).astype(np.uint8)], channels=3)[0, 0].numpy()
    assert np.abs(read - expected).max() < 1e-4


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("metric", [False, True])
def test_constant_or_broken_depth_gives_no_nan(metric, bits):
    kind = {8: np.uint8, 16: np.uint16}[bits]
    constant = near_is_bright(np.full((4, 4), 3.0), metric=metric, bits=bits)
    assert constant.dtype == kind
    assert not constant.any()
    broken = np.array([[np.nan, np.inf], [1.0, 2.0]])
    hint = near_is_bright(broken, metric=metric, bits=bits)
    assert hint.dtype == kind
    assert hint.max() == np.iinfo(kind).max


def test_missing_weights_are_named_with_size_and_licence(monkeypatch, tmp_path):
    monkeypatch.setenv("CNCTL_DETECTORS", str(tmp_path))
    with pytest.raises(MissingError, match=r"Intel/dpt-hybrid-midas \(490 MB; Apache-2.0"):
        load_detector(depth)


def test_the_recipe_is_the_papers():
    """Section 3.5: 3M pairs, 500 GPU-hours; 200k for the small-scale experiment."""
    assert depth.train.recipe.startswith("3M")
    assert "500 A100" in depth.train.recipe
    assert "200k" in depth.train.recipe
    assert depth.train.start_from == ""
