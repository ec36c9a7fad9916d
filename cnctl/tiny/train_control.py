"""Train the canny ControlNet on scenes with the base frozen (section 3.3 of the paper)."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from numpy.typing import NDArray
from torch import Tensor

from cnctl.tiny.base import Base, save_half
from cnctl.tiny.dataset import held_out_scenes
from cnctl.tiny.optim import Average, BrainFloatTwin, cosine, set_rates
from cnctl.tiny.sample import sample
from cnctl.tiny.scores import edge_f1, edges
from cnctl.tiny.train_unet import Latents, Noising, drop_prompts

PROMPT_DROPOUT = 0.5  # the paper's: half of the time the hint alone must do
HINT_WIDTHS = (8, 16, 32, 64)  # the released hint encoder's form, narrower
RATE = 1e-3
BATCH = 16
TOLERANCE = 2  # px of 128 within which an edge counts as met


def train_control(
    base: Base,
    data: Latents,
    *,
    minutes: float,
    out: Path,
    start: ControlNetModel | None = None,
    say: Callable[[str], None] = print,
) -> ControlNetModel:
    """Train for some minutes and save the averaged weights."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    base.unet.requires_grad_(False)
    control = start or fresh_control(base)
    optimizer = torch.optim.AdamW(control.parameters(), RATE, betas=(0.9, 0.99), fused=True)
    locked, twin = BrainFloatTwin(base.unet), BrainFloatTwin(control)
    average = Average(control.parameters(), 0.995)
    noising = Noising(base.scheduler.alphas_cumprod)
    began, step, losses = time.monotonic(), 0, []
    while (spent := time.monotonic() - began) < minutes * 60:
        set_rates([optimizer], cosine(spent / (minutes * 60), step=step, warm_up=30))
        losses.append(train_step(locked, twin, data, noising, optimizer, rng))
        average.update()
        step += 1
        if step % 50 == 0:
            data.scan()
            say(f"minute {spent / 60:.1f} step {step} loss {np.mean(losses[-50:]):.4f}")
    average.swap()
    save_half(control.eval(), out)
    say(json.dumps({"steps": step, "samples": step * BATCH}))
    return control


def fresh_control(base: Base) -> ControlNetModel:
    """A trainable copy of the encoder with zero convolutions."""
    return ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=HINT_WIDTHS)


def train_step(
    locked: BrainFloatTwin,
    twin: BrainFloatTwin,
    data: Latents,
    noising: Noising,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
) -> float:
    """One step of equation 10; returns the loss."""
    drawn = data.draw(rng, BATCH)
    hints = hint_tensor([random_edges(picture, rng) for picture in data.pictures(drawn)])
    prompts = drop_prompts([data.prompts[i] for i, _ in drawn], PROMPT_DROPOUT, rng)
    states, latents = data.embed(prompts).bfloat16(), data.latents(drawn)
    noise, timesteps = noising.noise(latents), noising.timesteps(BATCH)
    noisy = noising.add(latents, noise, timesteps).bfloat16()
    down, middle = twin.net(noisy, timesteps, states, hints.bfloat16(), return_dict=False)
    predicted = locked.net(
        noisy,
        timesteps,
        states,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample
    loss = noising.loss(predicted.float(), noise, timesteps)
    loss.backward()
    twin.hand_over_gradients()
    torch.nn.utils.clip_grad_norm_(twin.original, 1.0)
    optimizer.step()
    twin.take_weights()
    return loss.item()


def random_edges(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Canny edges with thresholds drawn at random, as in the paper's appendix."""
    low = int(rng.integers(40, 160))
    return edges(picture, low, low + int(rng.integers(30, 140)))


def hint_tensor(maps: list[NDArray[np.uint8]]) -> Tensor:
    """Maps uint8 (H, W) to hints float32 (N, 3, H, W) in [0, 1]."""
    stacked = torch.from_numpy(np.stack(maps)).float() / 255
    return stacked[:, None].repeat(1, 3, 1, 1)


def control_scores(
    base: Base, control: ControlNetModel, *, guidance_scale: float, count: int = 64
) -> dict[str, float]:
    """F1 of edges on held-out scenes: with control, without, against another scene's hint."""
    scenes = held_out_scenes(count)
    wanted = [edges(scene.image) for scene in scenes]
    prompts = [scene.prompt for scene in scenes]
    hints = hint_tensor(wanted)
    obeyed, free = [], []
    for start in range(0, count, 16):
        part = slice(start, start + 16)
        obeyed += list(
            sample(
                base,
                prompts[part],
                guidance_scale=guidance_scale,
                seed=start,
                control=control,
                hints=hints[part],
            )
        )
        free += list(sample(base, prompts[part], guidance_scale=guidance_scale, seed=start))
    wrong = wanted[1:] + wanted[:1]
    return {
        "with_control": mean_f1(wanted, obeyed),
        "without_control": mean_f1(wanted, free),
        "wrong_hint": mean_f1(wrong, obeyed),
    }


def mean_f1(wanted: list[NDArray[np.uint8]], pictures: list[NDArray[np.uint8]]) -> float:
    """Mean F1 of the pictures' edges within `TOLERANCE`."""
    pairs = zip(wanted, pictures, strict=True)
    return round(float(np.mean([edge_f1(w, edges(p), tolerance=TOLERANCE) for w, p in pairs])), 3)
