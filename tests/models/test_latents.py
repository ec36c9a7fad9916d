"""Images to latents and back, against the autoencoder called by hand."""

import numpy as np
import pytest
import torch

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.latents import decode_latents, encode_images


class TestImages:
    def images(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (2, 64, 40, 3), dtype=np.uint8)

    def test_encode(self, loaded_random_base: Base) -> None:
        base, images = loaded_random_base, self.images()
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2)).float() / 255 * 2 - 1
        with torch.no_grad():
            posterior = base.vae.encode(pixels).latent_dist
        expected = posterior.mean * base.vae.config.scaling_factor
        latents = encode_images(base, images)
        assert latents.shape == (2, 4, 8, 5)
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)
        noise = torch.randn(2, 4, 8, 5, generator=torch.Generator().manual_seed(1))
        expected = (posterior.mean + posterior.std * noise) * base.vae.config.scaling_factor
        drawn = encode_images(base, images, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-5)

    def test_each_image_by_its_own_generator(self, loaded_random_base: Base) -> None:
        images = self.images()
        both = encode_images(
            loaded_random_base, images, generator=[torch.Generator().manual_seed(s) for s in (1, 2)]
        )
        alone = encode_images(
            loaded_random_base, images[1:], generator=[torch.Generator().manual_seed(2)]
        )
        torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)

    def test_decode(self, loaded_random_base: Base) -> None:
        base = loaded_random_base
        latents = torch.randn(2, 4, 8, 5, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            pixels = base.vae.decode(latents / base.vae.config.scaling_factor).sample
        expected = ((pixels.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
        images = decode_latents(base, latents)
        assert images.shape == (2, 64, 40, 3)
        assert images.dtype == np.uint8
        assert np.abs(images - expected).max() < 0.51

    def test_not_numbers(self, loaded_random_base: Base) -> None:
        with pytest.raises(CnctlError, match="pixels that are not numbers"):
            decode_latents(loaded_random_base, torch.full((1, 4, 8, 8), float("nan")))
