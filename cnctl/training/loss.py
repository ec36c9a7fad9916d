"""The learning objective, equation 10."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnctl.models.base import Base
from cnctl.models.network import Network
from cnctl.models.text_features import TextFeatures


def noise_prediction_loss(
    base: Base,
    network: Network,
    *,
    latents: Tensor,
    text: TextFeatures,
    hint: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    connect: str = "all",
    snr_gamma: float = 0.0,
    weighting: str = "none",
) -> Tensor:
    """L = ‖ε - ε_θ(z_t, t, c_t, c_f)‖², as the mean over the batch and all elements.

    snr_gamma: 0 is equation 10 as it stands; above, each sample counts by min-SNR (Hang et al.,
    2023, equation 9), so that nearly clean images, on which control has no hold, count less.

    weighting: how timesteps count besides, one of the base's `Process.weightings`.

    latents z_0 and noise ε: (B, C, h, w), scaled; timesteps t: (B,); text: c_t;
    hint: float (B, hint_channels, H, W) in [0, 1]. A base that predicts v or a velocity has that in
    ε's place.
    """
    noisy = base.process.add_noise(latents, noise, timesteps)
    predicted = network.predict(base, noisy, timesteps, text, hint, connect=connect)
    target = base.process.target(latents, noise, timesteps)
    errors = F.mse_loss(predicted.float(), target.float(), reduction="none").mean((1, 2, 3))
    if snr_gamma:
        errors = errors * base.process.min_snr_weights(timesteps, snr_gamma)
    if weighting != "none":
        errors = errors * base.process.weights(timesteps, weighting)
    return errors.mean()


def draw_noise(
    shape: tuple[int, ...], generator: torch.Generator, *, offset: float = 0.0
) -> Tensor:
    """The noise ε of one example, float32 (C, h, w), with the same offset at all positions.

    Stable Diffusion's schedule leaves the mean of an image readable at its noisiest step. A network
    that learns to read it there does not take colours from the hint. The offset, of a standard
    deviation of `offset` in each channel, hides the mean (Guttenberg, 2023).
    """
    noise = torch.randn(shape, generator=generator)
    if offset:
        noise += offset * torch.randn((shape[0], 1, 1), generator=generator)
    return noise
