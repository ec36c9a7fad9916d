"""Between images and latents, by a base's autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.offload import on_device

Generators = torch.Generator | list[torch.Generator] | None


class KLLatents:
    """Latents of diffusers' AutoencoderKL, which scales and shifts them by two numbers."""

    def factor(self, base: Base) -> int:
        """Pixels per latent, along a side."""
        return autoencoder_factor(base.vae)

    def shape(self, base: Base, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of an image's latents."""
        factor = self.factor(base)
        return self._channels(base.vae), height // factor, width // factor

    @torch.no_grad()
    def encode(self, base: Base, images: np.ndarray) -> Tensor:
        """Mean and log variance of the autoencoder's posterior, (B, 2 C, h, w)."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        pixels = pixels.to(base.device, base.vae.dtype) / 127.5 - 1
        with on_device(base, base.vae):
            return self._moments(base.vae, pixels)

    def draw(self, base: Base, moments: Tensor, *, generator: Generators) -> Tensor:
        """Scaled latents (B, C, h, w), float32, from moments; their mode for no generator."""
        posterior = DiagonalGaussianDistribution(moments)
        latents = posterior.mode() if generator is None else posterior.sample(generator)
        shift, scale = self._statistics(base)
        return (latents.float() - shift) * scale

    @torch.no_grad()
    def encode_hint(self, base: Base, pixels: Tensor, *, shifted: bool = True) -> Tensor:
        """Latents (B, C, h, w), float32, of a hint's pixels (B, 3, H, W) in [-1, 1].

        They are the mode of the posterior, so that a hint always gives the same; diffusers'
        pipelines draw a sample, some without a seed. shifted: some ControlNets were trained without
        the shift of the base's latents.
        """
        with on_device(base, base.vae):
            moments = self._moments(base.vae, pixels.to(base.device, base.vae.dtype))
        shift, scale = self._statistics(base)
        mode = DiagonalGaussianDistribution(moments).mode().float()
        return (mode - (shift if shifted else 0.0)) * scale

    @torch.no_grad()
    def decode(self, base: Base, latents: Tensor) -> np.ndarray:
        """Scaled latents to images uint8 (B, H, W, 3), one at a time, so that batches agree.

        Raises CnctlError when they are not finite, which half precision can cause.
        """
        shift, scale = self._statistics(base)
        latents = (latents.float() / scale + shift).to(base.vae.dtype)
        with on_device(base, base.vae):
            pixels = torch.cat([self._pixels(base.vae, one[None]) for one in latents]).float()
        if not torch.isfinite(pixels).all():
            raise CnctlError(
                f"the base made pixels that are not numbers (NaN) in {base.dtype}",
                hint="use milder scales" if base.dtype == torch.float32 else "use --dtype float32",
            )
        pixels = (pixels / 2 + 0.5).clamp(0, 1).mul(255).round()
        return pixels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def _channels(self, vae: Any) -> int:
        return vae.config.latent_channels

    def _moments(self, vae: Any, pixels: Tensor) -> Tensor:
        return vae.encode(pixels).latent_dist.parameters

    def _pixels(self, vae: Any, latents: Tensor) -> Tensor:
        return vae.decode(latents).sample

    def _statistics(self, base: Base) -> tuple[Any, Any]:
        """What is subtracted from latents, and then what they are multiplied by."""
        config = base.vae.config
        return config.get("shift_factor") or 0.0, config.scaling_factor


def autoencoder_factor(vae: Any) -> int:
    """Pixels per latent, along a side, of diffusers' AutoencoderKL."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def encode_images(base: Base, images: np.ndarray, *, generator: Generators = None) -> Tensor:
    """Images uint8 (B, H, W, 3) to scaled latents (B, C, h, w), float32.

    A sample of the autoencoder's posterior by `generator` (one, or one per image); its mode for
    None.
    """
    latents = base.family.latents
    return latents.draw(base, latents.encode(base, images), generator=generator)


def decode_latents(base: Base, latents: Tensor) -> np.ndarray:
    """Scaled latents (B, C, h, w) to images uint8 (B, H, W, 3)."""
    return base.family.latents.decode(base, latents)
