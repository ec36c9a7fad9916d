"""Train the U-Net on cached latents with the text encoder frozen, as Stable Diffusion was."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn

from cnctl.tiny.base import Base, save_half
from cnctl.tiny.dataset import CHUNK, held_out_scenes, to_tensor
from cnctl.tiny.optim import Average, BrainFloatTwin, Muon, cosine, set_rates
from cnctl.tiny.sample import SHEET_PROMPTS, sample, write_grid

PROMPT_DROPOUT = 0.1
MIN_SNR_GAMMA = 5.0  # Hang et al., 2023: easy, nearly clean steps count less
EMA_DECAY = 0.999
NOISE_OFFSET = 0.1  # at 16x16 the mean of a picture outlives the noise; the prompt should set it


class Latents:
    """Cached latents in memory with the prompts' hidden states, growing with the folder."""

    def __init__(self, folder: Path, base: Base) -> None:
        self.folder, self.base = folder, base
        self.paths: list[Path] = []
        self.chunks: list[NDArray[np.float16]] = []
        self.scenes: list[NDArray[np.uint8]] = []
        self.prompts: list[str] = []
        self.states: dict[str, Tensor] = {}
        self.scan()

    def scan(self) -> None:
        """Take in chunks that have appeared."""
        for path in sorted(self.folder.glob("latents-*.npy")):
            if path not in self.paths:
                self.paths.append(path)
                self.chunks.append(np.load(path))
                scenes = path.with_name(path.name.replace("latents", "scenes"))
                self.scenes.append(np.load(scenes, mmap_mode="r"))
                self.prompts += json.loads(scenes.with_suffix(".json").read_text())

    def draw(self, rng: np.random.Generator, size: int) -> list[tuple[int, int]]:
        """Random scenes as pairs (index, 1 if mirrored)."""
        indices = rng.integers(len(self.prompts), size=size).tolist()
        return list(zip(indices, rng.integers(2, size=size).tolist(), strict=True))

    def latents(self, drawn: list[tuple[int, int]]) -> Tensor:
        """Latents float32 (N, C, 16, 16)."""
        picked = [self.chunks[i // CHUNK][mirrored, i % CHUNK] for i, mirrored in drawn]
        return torch.from_numpy(np.stack(picked)).float()

    def pictures(self, drawn: list[tuple[int, int]]) -> list[NDArray[np.uint8]]:
        """The pictures themselves, uint8 (H, W, 3) each."""
        picked = ((self.scenes[i // CHUNK][i % CHUNK], mirrored) for i, mirrored in drawn)
        return [picture[:, ::-1] if mirrored else picture for picture, mirrored in picked]

    def embed(self, prompts: list[str]) -> Tensor:
        """Hidden states float32 (N, 32, width), remembered by prompt."""
        missing = sorted({prompt for prompt in prompts if prompt not in self.states})
        if missing:
            self.states.update(zip(missing, self.base.embed(missing).half(), strict=True))
        return torch.stack([self.states[prompt] for prompt in prompts]).float()


class Noising:
    """Stable Diffusion's forward process with the loss's weights."""

    def __init__(self, alphas_cumprod: Tensor) -> None:
        self.alphas_cumprod = alphas_cumprod
        ratio = alphas_cumprod / (1 - alphas_cumprod)
        self.weights = ratio.clamp(max=MIN_SNR_GAMMA) / ratio

    def timesteps(self, size: int) -> Tensor:
        """Timesteps spread evenly over the schedule, in random order."""
        places = (torch.randperm(size) + torch.rand(size)) / size
        return (places * len(self.alphas_cumprod)).long()

    def noise(self, latents: Tensor) -> Tensor:
        """Noise like the latents, with a little that all places of a channel share."""
        shared = torch.randn(*latents.shape[:2], 1, 1)
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
    rng = np.random.default_rng(seed)
    unet = base.unet.train()
    optimizers = make_optimizers(unet, rate=rate, muon=muon)
    average, twin = Average(unet.parameters(), EMA_DECAY), BrainFloatTwin(unet)
    noising = Noising(base.scheduler.alphas_cumprod)
    watch = Watch(base, noising)
    began, step, mark, losses = time.monotonic(), 0, grid_minutes * 60, []
    while (spent := time.monotonic() - began) < minutes * 60:
        set_rates(optimizers, cosine(spent / (minutes * 60), step=step, warm_up=80))
        losses.append(train_step(twin, data, noising, optimizers, batch_size, rng))
        average.update()
        step += 1
        if step % 100 == 0:
            data.scan()
            say(f"minute {spent / 60:.1f} step {step} loss {np.mean(losses[-100:]):.4f}")
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


def train_step(
    twin: BrainFloatTwin,
    data: Latents,
    noising: Noising,
    optimizers: list[torch.optim.Optimizer],
    batch_size: int,
    rng: np.random.Generator,
) -> float:
    """One step; returns the loss."""
    drawn = data.draw(rng, batch_size)
    prompts = drop_prompts([data.prompts[i] for i, _ in drawn], PROMPT_DROPOUT, rng)
    latents = data.latents(drawn)
    noise, timesteps = noising.noise(latents), noising.timesteps(batch_size)
    noisy = noising.add(latents, noise, timesteps).bfloat16()
    predicted = twin.net(noisy, timesteps, data.embed(prompts).bfloat16()).sample
    loss = noising.loss(predicted.float(), noise, timesteps)
    loss.backward()
    twin.hand_over_gradients()
    torch.nn.utils.clip_grad_norm_(twin.original, 1.0)
    for optimizer in optimizers:
        optimizer.step()
    twin.take_weights()
    return loss.item()


def drop_prompts(prompts: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """The prompts, a share of them replaced by the empty one."""
    return ["" if rng.random() < share else prompt for prompt in prompts]


def make_optimizers(unet: nn.Module, *, rate: float, muon: bool) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for inner matrices and AdamW for the rest; `rate` multiplies both rates."""
    outer = ("conv_in.", "conv_out.", "time_embedding")
    named = list(unet.named_parameters())
    inner = [p for n, p in named if muon and p.ndim >= 2 and not n.startswith(outer)]
    chosen = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in chosen]
    adam = torch.optim.AdamW(rest, 1e-3 * rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    return [Muon(inner, 0.02 * rate), adam] if muon else [adam]


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
        self.noise = torch.randn(self.latents.shape, generator=generator)
        self.timesteps = torch.linspace(200, 950, count).long()

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
