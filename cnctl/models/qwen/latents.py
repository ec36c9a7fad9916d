"""Between images and the latents of Qwen-Image's autoencoder, which is one for video."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cnctl.models.base import Base
from cnctl.models.latents import KLLatents


class QwenLatents(KLLatents):
    """An image is a video of one frame; each channel has its own mean and deviation."""

    def factor(self, base: Base) -> int:
        """Pixels per latent, along a side."""
        return 2 ** len(base.vae.config.temperal_downsample)  # diffusers spells it so

    def _channels(self, vae: Any) -> int:
        return vae.config.z_dim

    def _moments(self, vae: Any, pixels: Tensor) -> Tensor:
        return vae.encode(pixels[:, :, None]).latent_dist.parameters[:, :, 0]

    def _pixels(self, vae: Any, latents: Tensor) -> Tensor:
        return vae.decode(latents[:, :, None]).sample[:, :, 0]

    def _statistics(self, base: Base) -> tuple[Tensor, Tensor]:
        config = base.vae.config
        mean, deviation = (
            torch.tensor(values, device=base.device).reshape(1, -1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, 1 / deviation
