"""The learning objective, equation 10."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cnctl.models.base import Base
from cnctl.models.network import Network, predict_controlled
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
) -> Tensor:
    """L = ‖ε - ε_θ(z_t, t, c_t, c_f)‖², as the mean over the batch and all elements.

    snr_gamma: 0 is equation 10 as it stands; above, each sample counts by min-SNR (Hang et al.,
    2023, equation 9), so that nearly clean images, on which control has no hold, count less.

    latents z_0 and noise ε: (B, C, h, w), scaled; timesteps t: integers (B,); text: c_t;
    hint: float (B, hint_channels, H, W) in [0, 1]. A base that predicts v has v in ε's place.
    """
    noisy = base.scheduler.add_noise(latents, noise, timesteps)
    predicted = predict_controlled(base, network, noisy, timesteps, text, hint, connect=connect)
    if base.prediction_type == "v_prediction":
        noise = base.scheduler.get_velocity(latents, noise, timesteps)
    errors = F.mse_loss(predicted.float(), noise.float(), reduction="none").mean((1, 2, 3))
    return (errors * _weights(base, timesteps, snr_gamma)).mean() if snr_gamma else errors.mean()


def _weights(base: Base, timesteps: Tensor, snr_gamma: float) -> Tensor:
    """min(SNR, γ) / SNR of each timestep for ε; for v the denominator is SNR + 1."""
    kept = base.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = kept / (1 - kept)
    return snr.clamp(max=snr_gamma) / (snr + (base.prediction_type == "v_prediction"))
