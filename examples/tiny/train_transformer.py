"""Train a transformer by flow matching on cached latents, with the text encoder frozen.

The loss of rectified flow with Stable Diffusion 3's density of times (Esser et al., 2024): from
noise at time 1 to a picture at 0 on a straight line, whose direction is what is learned.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from examples.tiny.flow import FlowBase, predict_velocity, sample_flow
from examples.tiny.latents import Latents
from examples.tiny.optim import fast_autocast, make_optimizers
from examples.tiny.training import Watch, train_for

OUTER = ("pos_embed.", "time_text_embed.", "context_embedder.", "norm_out.", "proj_out.")


def train_transformer(
    base: FlowBase,
    data: Latents,
    *,
    minutes: float,
    out: Path,
    batch_size: int = 32,
    rate: float = 1.0,
    seed: int = 0,
    grid_minutes: float = 10.0,
    say: Callable[[str], None] = print,
) -> SD3Transformer2DModel:
    """Train `base.transformer` for some minutes; saves the averaged weights every few minutes."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    transformer = base.transformer.train()
    optimizers = make_optimizers(transformer, OUTER, rate=rate)
    train_for(
        minutes,
        transformer,
        take_step=make_step(transformer, optimizers),
        draw_inputs=lambda: draw_inputs(data, batch_size, generator),
        optimizers=optimizers,
        watch=watch(base),
        out=out,
        batch_size=batch_size,
        grid_minutes=grid_minutes,
        say=say,
    )
    return transformer


def make_step(
    transformer: SD3Transformer2DModel, optimizers: list[torch.optim.Optimizer]
) -> Callable[..., Tensor]:
    """One step, of latents, noise, times and hidden states; it returns the loss.

    On CPUs attention is plain matrix products, since torch's fused one has a slow backward pass.
    """
    on_cpu = transformer.device.type == "cpu"

    def step(latents: Tensor, noise: Tensor, times: Tensor, states: Tensor) -> Tensor:
        noisy = at_times(latents, noise, times)
        attention = sdpa_kernel(SDPBackend.MATH) if on_cpu else nullcontext()
        with fast_autocast(transformer.device), attention:
            predicted = predict_velocity(transformer, noisy, times, states)
            loss = (predicted.float() - (noise - latents)).square().mean()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    return step


def draw_inputs(
    data: Latents, batch_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a step is given; times have the logit-normal density."""
    data.scan()
    latents, states = data.draw(batch_size, generator)
    times = torch.sigmoid(torch.randn(batch_size, device=latents.device))
    return latents, torch.randn_like(latents), times, states


def at_times(latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Places (N, C, h, w) on the lines from latents at 0 to noise at 1."""
    return torch.lerp(latents, noise, times[:, None, None, None])


def watch(base: FlowBase) -> Watch:
    """Times from 0.2 to 0.95, and a sheet with guidance 3."""

    def find_loss(latents: Tensor, noise: Tensor, prompts: list[str]) -> Tensor:
        times = torch.linspace(0.2, 0.95, len(latents), device=latents.device)
        noisy = at_times(latents, noise, times)
        predicted = predict_velocity(base.transformer, noisy, times, base.embed(prompts))
        return (predicted - (noise - latents)).square().mean()

    return Watch(base, find_loss, partial(sample_flow, base, guidance_scale=3.0))
