"""The learning objective, equation 10."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cnctl.core.base import Base
from cnctl.core.controlnet import control_residuals, predict_noise


def noise_prediction_loss(
    base: Base,
    controlnet: nn.Module,
    *,
    latents: Tensor,
    text: Tensor,
    hint: Tensor,
    timesteps: Tensor,
    noise: Tensor,
    connect: str = "all",
) -> Tensor:
    """L = ‖ε - ε_θ(z_t, t, c_t, c_f)‖², as the mean over the batch and all elements.

    latents z_0 and noise ε: (B, C, h, w), scaled; timesteps t: integers (B,); text c_t: (B, L, D);
    hint: float (B, hint_channels, H, W) in [0, 1]. A base that predicts v has v in ε's place.
    """
    noisy = base.scheduler.add_noise(latents, noise, timesteps)
    residuals = control_residuals(controlnet, noisy, timesteps, text, hint, connect=connect)
    predicted = predict_noise(base.unet, noisy, timesteps, text, residuals)
    if base.prediction_type == "v_prediction":
        noise = base.scheduler.get_velocity(latents, noise, timesteps)
    return F.mse_loss(predicted.float(), noise.float())
