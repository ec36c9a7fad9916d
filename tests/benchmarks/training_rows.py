"""Rows of gpu.py on training: our training loop, then diffusers' step, on the same examples.

diffusers' step is written here as its examples/controlnet/train_controlnet.py does it, and is not
that file: training.py runs the file itself. Each side has networks of its own, alone in memory.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, DDPMScheduler
from random_bases import KINDS, build_base, synchronize, with_text_encoder
from torch import Tensor
from torch.nn import functional as F

from cnctl.models.base import Base
from cnctl.settings import TrainSettings
from cnctl.training.encoding_cache import EncodingCache
from cnctl.training.trainer import Training

WARM_UP, TIMED = 2, 6
"""Steps. With a cache the first epoch, of WARM_UP steps, fills it."""


@dataclass(frozen=True)
class Example:
    """As training reads one."""

    image: np.ndarray
    hint: np.ndarray
    prompt: str
    original: None = None
    corner: tuple[int, int] = (0, 0)


class Drawn:
    """Random examples of one size, in memory."""

    def __init__(self, count: int, pixels: int) -> None:
        rng = np.random.default_rng(0)
        shape = (count, 2, pixels, pixels, 3)
        self._pixels = rng.integers(0, 256, shape, np.uint8)
        self.groups = [0] * count

    def __len__(self) -> int:
        return len(self._pixels)

    def load(self, index: int, rng: object) -> Example:
        return Example(*self._pixels[index], prompt=f"a picture of thing {index}")

    def name(self, index: int) -> str:
        return str(index)


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """Steps of Stable Diffusion 1.5."""

    batch: int
    cached: bool = False

    @property
    def name(self) -> str:
        """What it is called in the table, and skipped by."""
        cached = ", cached" if self.cached else ""
        return f"train SD 1.5, batch {self.batch}{cached}"

    def measure(self, *, device: torch.device, dtype: torch.dtype, reduced: bool) -> dict[str, Any]:
        """Seconds of steps of both sides, and the most memory of each."""
        seconds: dict[str, list[float]] = {}
        memory: dict[str, float] = {}
        pixels = 32 if reduced else KINDS["SD 1.5"].pixels
        batch = min(self.batch, 2) if reduced else self.batch
        examples = Drawn(batch * WARM_UP, pixels)
        for side, steps in {"cnctl": self._our_steps, "diffusers": stock_steps}.items():
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            base = build_base("SD 1.5", device=device, dtype=dtype, reduced=reduced)
            seconds[side] = _time(steps(with_text_encoder(base), examples, batch), device)
            if device.type == "cuda":
                memory[side] = torch.cuda.max_memory_allocated(device) / 2**30
            del base
        return {
            "seconds": seconds,
            "peak_gib": memory,
            "samples_a_second": batch / median(seconds["cnctl"]),
            "ratio": median(seconds["cnctl"]) / median(seconds["diffusers"]),
        }

    def _our_steps(self, base: Base, examples: Drawn, batch: int) -> Iterator[None]:
        settings = TrainSettings(
            batch_size=batch,
            steps=WARM_UP + TIMED,
            max_grad_norm=1.0,
            prompt_dropout=0.0,
            resolution=examples.load(0, None).image.shape[0],
        )
        network = base.family.build_network(
            base,
            method="controlnet",
            hint_channels=3,
            hint_encoder=settings.hint_encoder,
            hint_start=settings.hint_start,
        )
        with tempfile.TemporaryDirectory() as folder:
            cache = EncodingCache(Path(folder), base) if self.cached else None
            run = Training(base, network, examples, settings=settings, cache=cache)
            for _ in run.run():
                yield


TRAINING_ROWS = (
    TrainingRow(batch=4),
    TrainingRow(batch=4, cached=True),
    TrainingRow(batch=16),
)


def stock_steps(base: Base, examples: Drawn, batch: int) -> Iterator[None]:
    """Step by step as the file does it: mixed precision, clipping, the loss read each time."""
    scheduler = DDPMScheduler.from_config(base.process.scheduler.config)
    network = ControlNetModel.from_unet(base.denoiser).to(base.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-6)
    tokenizer = base.text_encoders[0].tokenizer
    order = iter(np.random.default_rng(0).integers(0, len(examples), 10**4))
    while True:
        read = [examples.load(int(index), None) for index in islice(order, batch)]
        tokens = tokenizer(
            [one.prompt for one in read], padding="max_length", truncation=True, return_tensors="pt"
        )
        images = _pixels([one.image for one in read]) * 2 - 1
        with torch.autocast(base.device.type, base.dtype, enabled=base.dtype != torch.float32):
            loss = _stock_loss(
                base,
                network,
                scheduler,
                images=images.to(base.device),
                hints=_pixels([one.hint for one in read]).to(base.device),
                tokens=tokens.input_ids.to(base.device),
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        loss.detach().item()
        yield


def _stock_loss(
    base: Base,
    network: ControlNetModel,
    scheduler: Any,
    *,
    images: Tensor,
    hints: Tensor,
    tokens: Tensor,
) -> Tensor:
    latents = base.vae.encode(images.to(base.dtype)).latent_dist.sample()
    latents = latents * base.vae.config.scaling_factor
    noise = torch.randn_like(latents)
    timesteps = torch.randint(0, 1000, (len(latents),), device=latents.device)
    noisy = scheduler.add_noise(latents.float(), noise.float(), timesteps).to(base.dtype)
    text = base.text_encoders[0].model(tokens, return_dict=False)[0]
    down, middle = network(noisy, timesteps, text, hints.to(base.dtype), return_dict=False)
    predicted = base.denoiser(
        noisy,
        timesteps,
        text,
        down_block_additional_residuals=[one.to(base.dtype) for one in down],
        mid_block_additional_residual=middle.to(base.dtype),
        return_dict=False,
    )[0]
    return F.mse_loss(predicted.float(), noise.float())


def _pixels(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def _time(steps: Iterator[None], device: torch.device) -> list[float]:
    """Seconds of each timed step."""
    seconds = []
    for number in range(WARM_UP + TIMED):
        synchronize(device)
        begin = time.perf_counter()
        next(steps)
        synchronize(device)
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - begin)
    steps.close()  # type: ignore[attr-defined]
    return seconds
