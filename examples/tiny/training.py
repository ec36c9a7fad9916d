"""The loop that trains a denoiser for some minutes, whatever it is."""

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from diffusers import ModelMixin
from numpy.typing import NDArray
from torch import Tensor

from cnctl.tiny.pictures import to_tensor
from examples.tiny.base import save_half
from examples.tiny.dataset import held_out_scenes
from examples.tiny.optim import ExponentialMovingAverage, captured, cosine, set_rates
from examples.tiny.sample import SHEET_PROMPTS, write_grid

EMA_DECAY = 0.999
Inputs = tuple[Tensor, ...]


class Encodes(Protocol):
    """A base that makes latents."""

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (N, C, h, w) of pictures (N, 3, H, W) in [-1, 1]."""
        ...


class Watch:
    """Looks at held-out scenes while training: does the text matter, and how do samples look.

    find_loss(latents, noise, prompts): the loss of 64 scenes at medium and high noise.
    draw(prompts): a picture of each.
    """

    def __init__(
        self,
        base: Encodes,
        find_loss: Callable[[Tensor, Tensor, list[str]], Tensor],
        draw: Callable[[Sequence[str]], Sequence[NDArray[np.uint8]]],
    ) -> None:
        self.find_loss, self.draw = find_loss, draw
        scenes = held_out_scenes(64)
        self.latents = base.encode(to_tensor(np.stack([scene.image for scene in scenes])))
        self.prompts = [scene.prompt for scene in scenes]
        noise = torch.randn(self.latents.shape, generator=torch.Generator().manual_seed(1))
        self.noise = noise.to(self.latents.device)

    def report(self, samples: int) -> str:
        """One line of JSON: losses with right, shuffled and empty prompts."""
        shuffled = self.prompts[1:] + self.prompts[:1]
        empty = [""] * len(self.prompts)
        prompts = {"right": self.prompts, "shuffled": shuffled, "empty": empty}
        with torch.no_grad():
            losses = {k: self.find_loss(self.latents, self.noise, v) for k, v in prompts.items()}
        rounded = {name: round(float(loss), 4) for name, loss in losses.items()}
        return json.dumps({"samples": samples} | rounded)

    def grid(self, path: Path) -> None:
        """Write the sheet of fixed prompts."""
        write_grid(str(path), self.draw(SHEET_PROMPTS), columns=8)


def train_for(
    minutes: float,
    net: ModelMixin,
    *,
    take_step: Callable[..., Tensor],
    draw_inputs: Callable[[], Inputs],
    optimizers: list[torch.optim.Optimizer],
    watch: Watch,
    out: Path,
    batch_size: int,
    grid_minutes: float,
    say: Callable[[str], None],
) -> None:
    """Take steps, and save the averaged weights in float16 every few minutes and at the end.

    take_step(*draw_inputs()): one step, and its loss. On CUDA it becomes one graph.
    """
    average = ExponentialMovingAverage(net.parameters(), EMA_DECAY)
    began, step, mark = time.monotonic(), 0, grid_minutes * 60
    losses: deque[Tensor] = deque(maxlen=100)

    def look(sheet: str) -> None:
        average.swap()
        save_half(net, out)
        say(watch.report(step * batch_size))
        watch.grid(out.with_name(sheet))
        average.swap()

    while (spent := time.monotonic() - began) < minutes * 60:
        set_rates(optimizers, cosine(spent / (minutes * 60), step=step, warm_up=80))
        inputs = draw_inputs()
        if step == 0 and inputs[0].device.type == "cuda":
            take_step = captured(take_step, inputs)
        losses.append(take_step(*inputs))
        average.update()
        step += 1
        if step % 100 == 0:
            say(f"minute {spent / 60:.1f} step {step} loss {torch.stack([*losses]).mean():.4f}")
        if spent > mark:
            mark += grid_minutes * 60
            look(f"sheet-{round(spent / 60):03d}.png")
    look("sheet-final.png")
    average.swap()
