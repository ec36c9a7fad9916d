"""Train the U-Net on cached latents with the text encoder frozen, as Stable Diffusion was."""

import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from cnctl.tiny.pictures import to_tensor
from examples.tiny.base import Base, save_half
from examples.tiny.dataset import held_out_scenes
from examples.tiny.optim import (
    BrainFloatTwin,
    ExponentialMovingAverage,
    Muon,
    captured,
    cosine,
    set_rates,
)
from examples.tiny.sample import SHEET_PROMPTS, sample, write_grid

PROMPT_DROPOUT = 0.1
NOTHING_SAID = ("", "a professional, detailed, high-quality image")
"""Prompts that say nothing of a picture: the empty one, and the paper's default (section 4.1)."""
DEFAULT_SHARE = 0.05
PRAISE = ", best quality, extremely detailed"
"""What the original adds to prompts, and what is therefore to change nothing here."""
PRAISED_SHARE = 0.05
MIN_SNR_GAMMA = 5.0  # Hang et al., 2023: easy, nearly clean steps count less
EMA_DECAY = 0.999
NOISE_OFFSET = 0.1  # at 16x16 the mean of a picture outlives the noise; the prompt should set it


class Latents:
    """Cached latents on a device with the prompts' hidden states, growing with the folder."""

    def __init__(self, folder: Path, base: Base) -> None:
        self.folder, self.base = folder, base
        self.paths: list[Path] = []
        self.numbers: dict[str, int] = {}
        """Row of each prompt in `states`; the next row is the prompt's with praise."""
        self.states = base.embed([*NOTHING_SAID]).half()
        self.latents = torch.empty(2, 0, device=self.states.device)
        self.prompts = torch.empty(0, dtype=torch.long)
        self.scan()

    def __len__(self) -> int:
        return len(self.prompts)

    def scan(self) -> None:
        """Take in chunks that have appeared."""
        new = [p for p in sorted(self.folder.glob("latents-*.npy")) if p not in self.paths]
        if not new:
            return
        self.paths += new
        chunks = [torch.from_numpy(np.load(path)).to(self.states.device) for path in new]
        known = [self.latents] if len(self) else []
        self.latents = torch.cat([*known, *chunks], dim=1)
        for path in new:
            scenes = path.with_name(path.name.replace("latents", "scenes"))
            self._take_in(json.loads(scenes.with_suffix(".json").read_text()))

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents float32 (N, C, 16, 16) of random scenes, half of them mirrored, and the hidden
        states float32 (N, 32, width) of their prompts, some of which say nothing.
        """
        scenes = torch.randint(len(self), (size,), generator=generator)
        mirrored = torch.randint(2, (size,), generator=generator)
        chance = torch.rand(size, generator=generator)
        rows = self.prompts[scenes] + (chance >= 1 - PRAISED_SHARE)
        rows[chance < PROMPT_DROPOUT + DEFAULT_SHARE] = 1
        rows[chance < PROMPT_DROPOUT] = 0
        device = self.states.device
        latents = self.latents[mirrored.to(device), scenes.to(device)]
        return latents.float(), self.states[rows.to(device)].float()

    def _take_in(self, prompts: list[str]) -> None:
        missing = sorted(set(prompts) - self.numbers.keys())
        self.numbers |= {p: len(self.states) + 2 * n for n, p in enumerate(missing)}
        if missing:
            texts = [text for prompt in missing for text in (prompt, prompt + PRAISE)]
            self.states = torch.cat([self.states, self.base.embed(texts).half()])
        numbers = torch.tensor([self.numbers[prompt] for prompt in prompts])
        self.prompts = torch.cat([self.prompts, numbers])


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
    optimizers = make_optimizers(unet, rate=rate, muon=muon)
    average, twin = ExponentialMovingAverage(unet.parameters(), EMA_DECAY), BrainFloatTwin(unet)
    noising = Noising(base.scheduler.alphas_cumprod.to(unet.device))
    take_step = make_step(twin, noising, optimizers)
    watch = Watch(base, noising)
    began, step, mark = time.monotonic(), 0, grid_minutes * 60
    losses: deque[Tensor] = deque(maxlen=100)
    while (spent := time.monotonic() - began) < minutes * 60:
        set_rates(optimizers, cosine(spent / (minutes * 60), step=step, warm_up=80))
        inputs = draw_inputs(data, noising, batch_size, generator)
        if step == 0 and unet.device.type == "cuda":
            take_step = captured(take_step, inputs)
        losses.append(take_step(*inputs))
        average.update()
        step += 1
        if step % 100 == 0:
            data.scan()
            say(f"minute {spent / 60:.1f} step {step} loss {torch.stack([*losses]).mean():.4f}")
        if spent > mark:
            mark += grid_minutes * 60
            average.swap()
            say(watch.report(step * batch_size))
            save_half(unet, out)
            watch.grid(out.with_name(f"sheet-{round(spent / 60):03d}.png"))
            average.swap()
    average.swap()
    save_half(unet, out)
    say(watch.report(step * batch_size))
    watch.grid(out.with_name("sheet-final.png"))
    return unet


def make_step(
    twin: BrainFloatTwin, noising: Noising, optimizers: list[torch.optim.Optimizer]
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
    latents, states = data.draw(batch_size, generator)
    noise, timesteps = noising.noise(latents), noising.timesteps(batch_size)
    noisy = noising.add(latents, noise, timesteps)
    return noisy.bfloat16(), timesteps, states.bfloat16(), noise


def make_optimizers(
    unet: UNet2DConditionModel, *, rate: float, muon: bool
) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for inner matrices and AdamW for the rest; `rate` multiplies both rates."""
    outer = ("conv_in.", "conv_out.", "time_embedding")
    named = list(unet.named_parameters())
    inner = [p for n, p in named if muon and p.ndim >= 2 and not n.startswith(outer)]
    chosen = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in chosen]
    on_cuda = unet.device.type == "cuda"

    def place(rate: float) -> float | Tensor:
        return torch.tensor(rate, device=unet.device) if on_cuda else rate

    adam = torch.optim.AdamW(
        rest,
        place(1e-3 * rate),
        betas=(0.9, 0.99),
        weight_decay=0.01,
        fused=True,
        capturable=on_cuda,
    )
    return [Muon(inner, place(0.02 * rate)), adam] if muon else [adam]


@torch.no_grad()
def quiet_start(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Zero the last layer of each residual branch and of the net: it starts as a linear map."""
    for name, module in unet.named_modules():
        if name.endswith((".conv2", ".proj_out")) or name == "conv_out":
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
    return unet


class Watch:
    """Looks at held-out scenes while training: does the text matter, and how do samples look."""

    def __init__(self, base: Base, noising: Noising, count: int = 64) -> None:
        self.base, self.noising = base, noising
        scenes = held_out_scenes(count)
        self.latents = base.encode(to_tensor(np.stack([scene.image for scene in scenes])))
        self.prompts = [scene.prompt for scene in scenes]
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(self.latents.shape, generator=generator)
        self.noise = noise.to(self.latents.device)
        self.timesteps = torch.linspace(200, 950, count, device=self.latents.device).long()

    @torch.no_grad()
    def loss(self, prompts: list[str]) -> float:
        """Mean squared error at medium and high noise with these prompts."""
        noisy = self.noising.add(self.latents, self.noise, self.timesteps)
        states = self.base.embed(prompts)
        predicted = self.base.unet.eval()(noisy, self.timesteps, states).sample
        return float((predicted - self.noise).square().mean())

    def report(self, samples: int) -> str:
        """One line of JSON: losses with right, shuffled and empty prompts."""
        shuffled = self.prompts[1:] + self.prompts[:1]
        losses = {
            "right": self.loss(self.prompts),
            "shuffled": self.loss(shuffled),
            "empty": self.loss([""] * len(self.prompts)),
        }
        rounded = {name: round(value, 4) for name, value in losses.items()}
        return json.dumps({"samples": samples} | rounded)

    def grid(self, path: Path) -> None:
        """Write the sheet of fixed prompts."""
        base = dataclasses.replace(self.base, unet=self.base.unet.eval())
        pictures = sample(base, SHEET_PROMPTS, guidance_scale=4.0)
        write_grid(str(path), list(pictures), columns=8)
