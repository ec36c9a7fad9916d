"""Equation 10, computed by hand from the noise schedule's definition."""

import dataclasses

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler

from cnctl.models.base import Base
from cnctl.models.process import Diffusion
from cnctl.models.prompts import encode_prompts
from cnctl.training.loss import draw_noise, noise_prediction_loss


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("connect", "snr_gamma"), [("all", 0.0), ("middle", 0.0), ("all", 5.0)])
def test_is_equation_10(
    loaded_random_base: Base,
    random_controlnet: ControlNetModel,
    prediction: str,
    connect: str,
    snr_gamma: float,
) -> None:
    """And, with snr_gamma, equation 10 weighted by min-SNR."""
    scheduler = DDIMScheduler.from_config(
        loaded_random_base.process.scheduler.config, prediction_type=prediction
    )
    base = dataclasses.replace(loaded_random_base, process=Diffusion(scheduler))
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=generator)
    hint = torch.rand(2, 3, 64, 64, generator=generator)
    timesteps = torch.tensor([20, 800])
    text = encode_prompts(base, ["a cat", ""])
    with torch.no_grad():
        loss = noise_prediction_loss(
            base,
            random_controlnet,
            latents=latents,
            text=text,
            hint=hint,
            timesteps=timesteps,
            noise=noise,
            connect=connect,
            snr_gamma=snr_gamma,
        )
        # Stable Diffusion's schedule: betas linear in the square root, 0.00085 to 0.012.
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        signal = torch.cumprod(1 - betas, 0)[timesteps].reshape(2, 1, 1, 1)
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * latents
        down, middle = random_controlnet(noisy, timesteps, text.tokens, hint, return_dict=False)
        predicted = base.denoiser(
            noisy,
            timesteps,
            text.tokens,
            down_block_additional_residuals=[r * (connect == "all") for r in down],
            mid_block_additional_residual=middle,
        ).sample
    target = noise if prediction == "epsilon" else velocity
    errors = (target - predicted) ** 2
    if snr_gamma:
        snr = signal / (1 - signal)
        errors *= torch.minimum(snr, torch.tensor(5.0)) / (snr + (prediction == "v_prediction"))
    torch.testing.assert_close(loss, errors.mean())


def test_an_offset_of_noise_is_the_same_at_all_positions_of_a_channel() -> None:
    """And without one the noise is what it would be."""
    shape = (4000, 2, 3)
    plain, moved = (
        draw_noise(shape, torch.Generator().manual_seed(1), offset=offset) for offset in (0.0, 0.2)
    )
    assert torch.equal(plain, torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    offsets = (moved - plain).flatten(1)
    assert torch.allclose(offsets, offsets[:, :1].expand_as(offsets), atol=1e-5)
    assert offsets[:, 0].std().item() == pytest.approx(0.2, rel=0.05)
