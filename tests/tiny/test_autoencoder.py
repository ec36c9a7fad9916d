"""The shipped autoencoder keeps held-out scenes, at any size, within bounds."""

import numpy as np
import pytest
import torch

from cnctl.tiny import WEIGHTS
from cnctl.tiny.autoencoder import PatchAutoencoder
from cnctl.tiny.pictures import to_tensor
from examples.tiny.dataset import held_out_scenes
from examples.tiny.train_autoencoder import round_trip


@pytest.fixture(scope="module")
def autoencoder():
    return PatchAutoencoder.from_pretrained(WEIGHTS / "vae", torch_dtype=torch.float32).eval()


@pytest.mark.slow
def test_round_trip_of_held_out_scenes(autoencoder):
    scores = round_trip(autoencoder, 64)
    assert scores["psnr"] >= 31
    assert scores["edge_f1"] >= 0.9
    assert scores["largest_latent"] < 15


@pytest.mark.slow
@torch.no_grad()
def test_latents_are_normalised(autoencoder):
    pictures = to_tensor(np.stack([scene.image for scene in held_out_scenes(64)]))
    latents = autoencoder.encode(pictures).latent_dist.mode()
    assert latents.shape == (64, 8, 16, 16)
    assert latents.mean((0, 2, 3)).abs().max() < 0.2
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.2


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (64, 128), (200, 136)])
def test_any_multiple_of_eight(autoencoder, size):
    pictures = torch.rand(1, 3, *size) * 2 - 1
    latents = autoencoder.encode(pictures).latent_dist.sample()
    assert latents.shape[2:] == (size[0] // 8, size[1] // 8)
    assert autoencoder.decode(latents).sample.shape == pictures.shape


@torch.no_grad()
def test_extreme_pictures_stay_bounded(autoencoder):
    noise = torch.randint(0, 2, (4, 3, 128, 128)).float() * 2 - 1
    assert autoencoder.encode(noise).latent_dist.mode().abs().max() < 30


@torch.no_grad()
def test_samples_equal_the_mode(autoencoder):
    pictures = to_tensor(np.stack([scene.image for scene in held_out_scenes(2)]))
    distribution = autoencoder.encode(pictures).latent_dist
    torch.testing.assert_close(distribution.sample(), distribution.mode(), atol=1e-5, rtol=0)
    (tuple_form,) = autoencoder.encode(pictures, return_dict=False)
    assert torch.equal(tuple_form.mode(), distribution.mode())
