"""Train the autoencoder: principal components first, then everything."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnctl.tiny.autoencoder import PATCH, PatchAutoencoder
from cnctl.tiny.pictures import to_tensor
from examples.tiny.base import save_half
from examples.tiny.dataset import Pictures, held_out_scenes, to_pictures
from examples.tiny.optim import Muon, cosine, fast_autocast, set_rates
from examples.tiny.scores import edge_f1, edges, psnr

LATENT_NOISE = 0.05  # added to latents in training: the decoder will see imperfect ones
BATCH = 4
OUTER = ("project", "expand", "conv_in", "conv_out")


def train_autoencoder(
    pictures: Pictures,
    *,
    minutes: float,
    out: Path,
    start: PatchAutoencoder | None = None,
    say: Callable[[str], None] = print,
) -> PatchAutoencoder:
    """Train for some minutes of wall time and save to `out`; `start` continues from weights."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = start or fresh_autoencoder(pictures)
    model.train().to(memory_format=torch.channels_last)
    optimizers = make_optimizers(model, gentle=start is not None)
    began, step, mark = time.monotonic(), 0, 60.0
    while (spent := time.monotonic() - began) < minutes * 60:
        set_rates(optimizers, cosine(spent / (minutes * 60), step=step, warm_up=40))
        batch, _ = pictures.batch(rng, BATCH)
        train_step(model, to_tensor(batch), optimizers)
        step += 1
        if spent > mark:
            mark += 120
            say(json.dumps({"minute": round(spent / 60, 1), "step": step} | round_trip(model, 64)))
            save_half(model, out)
    normalise(model, pictures)
    save_half(model, out)
    say(json.dumps({"steps": step, "samples": step * BATCH} | round_trip(model, 256)))
    return model


def fresh_autoencoder(pictures: Pictures) -> PatchAutoencoder:
    """A new model that starts as the projection on principal components."""
    model = PatchAutoencoder()
    batch, _ = pictures.batch(np.random.default_rng(1), 1500)
    patches = F.unfold(to_tensor(batch), PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    top = torch.arange(len(values) - 1, len(values) - 1 - model.config.latent_channels, -1)
    model.set_principal_components(vectors[:, top], values[top].sqrt(), mean)
    return model


def make_optimizers(model: PatchAutoencoder, *, gentle: bool) -> list[torch.optim.Optimizer]:
    """Muon for the inner convolutions, AdamW for the rest; a quarter of the rates to go on."""
    named = list(model.named_parameters())
    inner = [p for n, p in named if p.ndim == 4 and not any(outer in n for outer in OUTER)]
    chosen = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in chosen]
    share = 0.25 if gentle else 1.0
    adam = torch.optim.AdamW(rest, 2e-3 * share, betas=(0.9, 0.98), weight_decay=1e-4)
    return [Muon(inner, 0.015 * share), adam]


def train_step(
    model: PatchAutoencoder, pictures: Tensor, optimizers: list[torch.optim.Optimizer]
) -> None:
    """One step; raw latents are used, so that changing statistics do not matter."""
    with fast_autocast("cpu"):
        latents = model.raw_latents(pictures)
        output = model.raw_decode(latents + LATENT_NOISE * torch.randn_like(latents))
    loss = reconstruction_loss(output.float() - pictures) + 5e-7 * latents.float().square().mean()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()


def reconstruction_loss(error: Tensor) -> Tensor:
    """Absolute and squared errors of pixels and of their differences, at three sizes."""
    half = F.avg_pool2d(error, 2)
    quarter = F.avg_pool2d(half, 2)
    loss = error.abs().mean() + error.square().mean() + slope(error)
    return loss + 0.5 * (half.abs().mean() + slope(half) + quarter.abs().mean())


def slope(error: Tensor) -> Tensor:
    """Mean absolute difference of neighbours."""
    across = (error[..., 1:] - error[..., :-1]).abs().mean()
    return across + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()


@torch.no_grad()
def normalise(model: PatchAutoencoder, pictures: Pictures) -> None:
    """Set the statistics of latents from 2000 scenes."""
    model.eval()
    batch, _ = pictures.batch(np.random.default_rng(2), 2000)
    parts = [model.raw_latents(to_tensor(batch[i : i + 50])) for i in range(0, len(batch), 50)]
    latents = torch.cat(parts)
    model.set_statistics(latents.mean((0, 2, 3)), latents.std((0, 2, 3)))


@torch.no_grad()
def round_trip(model: PatchAutoencoder, count: int) -> dict[str, float]:
    """Scores on held-out scenes: PSNR in dB, F1 of Canny edges within 1 px, largest latent."""
    training = model.training
    model.eval()
    originals = np.stack([scene.image for scene in held_out_scenes(count)])
    latents = [
        model.encode(to_tensor(originals[i : i + 32])).latent_dist.mode()
        for i in range(0, count, 32)
    ]
    copies = np.concatenate([to_pictures(model.decode(part).sample) for part in latents])
    model.train(training)
    f1 = [edge_f1(edges(a), edges(b), tolerance=1) for a, b in zip(originals, copies, strict=True)]
    return {
        "psnr": round(
            float(np.mean([psnr(a, b) for a, b in zip(originals, copies, strict=True)])), 2
        ),
        "edge_f1": round(float(np.mean(f1)), 3),
        "largest_latent": round(max(float(part.abs().max()) for part in latents), 2),
    }
