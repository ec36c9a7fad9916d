"""Train the U-Net on cached latents with the text encoder frozen, as Stable Diffusion was."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from examples.tiny.base import Base
from examples.tiny.latents import Latents
from examples.tiny.optim import Twin, fast_dtype, make_optimizers
from examples.tiny.sample import sample
from examples.tiny.training import Watch, train_for

MIN_SNR_GAMMA = 5.0  # Hang et al., 2023: easy, nearly clean steps count less
OUTER = ("conv_in.", "conv_out.", "time_embedding")
NOISE_OFFSET = 0.1  # at 16x16 the mean of a picture outlives the noise; the prompt should set it


class Noising:
    """Stable Diffusion's forward process with the loss's weights."""

    def __init__(self, alphas_cumprod: Tensor) -> None:
        self.alphas_cumprod = alphas_cumprod  # on the device that all of this happens on
        ratio = alphas_cumprod / (1 - alphas_cumprod)
        self.weights = ratio.clamp(max=MIN_SNR_GAMMA) / ratio

    def timesteps(self, size: int) -> Tensor:
        """Timesteps spread evenly over the schedule, in random order."""
        device = self.alphas_cumprod.device
        places = torch.randperm(size, device=device) + torch.rand(size, device=device)
        count = len(self.alphas_cumprod)
        return (places / size * count).long().clamp(max=count - 1)  # float32 rounds up to count

    def noise(self, latents: Tensor) -> Tensor:
        """Noise like the latents, with a little that all places of a channel share."""
        shared = torch.randn(*latents.shape[:2], 1, 1, device=latents.device)
        return torch.randn_like(latents) + NOISE_OFFSET * shared

    def add(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents at their timesteps."""
        kept = self.alphas_cumprod[timesteps][:, None, None, None]
        return kept.sqrt() * latents + (1 - kept).sqrt() * noise

    def loss(self, predicted: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The weighted mean of squared errors of the noise prediction."""
        errors = (predicted - noise).square().mean((1, 2, 3))
        return (errors * self.weights[timesteps]).mean()


def train_unet(
    base: Base,
    data: Latents,
    *,
    minutes: float,
    out: Path,
    batch_size: int = 32,
    rate: float = 1.0,
    muon: bool = True,
    seed: int = 0,
    grid_minutes: float = 10.0,
    say: Callable[[str], None] = print,
) -> UNet2DConditionModel:
    """Train `base.unet` for some minutes; saves the averaged weights every few minutes."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    unet = base.unet.train()
    optimizers = make_optimizers(unet, OUTER if muon else None, rate=rate)
    noising = Noising(base.scheduler.alphas_cumprod.to(unet.device))
    train_for(
        minutes,
        unet,
        take_step=make_step(Twin(unet), noising, optimizers),
        draw_inputs=lambda: draw_inputs(data, noising, batch_size, generator),
        optimizers=optimizers,
        watch=watch(base, noising),
        out=out,
        batch_size=batch_size,
        grid_minutes=grid_minutes,
        say=say,
    )
    return unet


def make_step(
    twin: Twin, noising: Noising, optimizers: list[torch.optim.Optimizer]
) -> Callable[..., Tensor]:
    """One step, of noisy latents, timesteps, hidden states and noise; it returns the loss."""

    def step(noisy: Tensor, timesteps: Tensor, states: Tensor, noise: Tensor) -> Tensor:
        predicted = twin.net(noisy, timesteps, states).sample
        loss = noising.loss(predicted.float(), noise, timesteps)
        loss.backward()
        twin.hand_over_gradients()
        torch.nn.utils.clip_grad_norm_(twin.original, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        twin.take_weights()
        return loss.detach()

    return step


def draw_inputs(
    data: Latents, noising: Noising, batch_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a step is given."""
    data.scan()
    latents, states = data.draw(batch_size, generator)
    noise, timesteps = noising.noise(latents), noising.timesteps(batch_size)
    noisy = noising.add(latents, noise, timesteps)
    dtype = fast_dtype(noisy.device)
    return noisy.to(dtype), timesteps, states.to(dtype), noise


@torch.no_grad()
def quiet_start(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Zero the last layer of each residual branch and of the net: it starts as a linear map."""
    for name, module in unet.named_modules():
        if name.endswith((".conv2", ".proj_out")) or name == "conv_out":
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
    return unet


def watch(base: Base, noising: Noising) -> Watch:
    """Timesteps from 200 to 950, and a sheet with guidance 4."""

    def find_loss(latents: Tensor, noise: Tensor, prompts: list[str]) -> Tensor:
        timesteps = torch.linspace(200, 950, len(latents), device=latents.device).long()
        noisy = noising.add(latents, noise, timesteps)
        predicted = base.unet(noisy, timesteps, base.embed(prompts)).sample
        return (predicted - noise).square().mean()

    return Watch(base, find_loss, partial(sample, base, guidance_scale=4.0))
