"""Latents of the rendered scenes, with what the text encoder makes of their prompts."""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

PROMPT_DROPOUT = 0.1
NOTHING_SAID = ("", "a professional, detailed, high-quality image")
"""Prompts that say nothing of a picture: the empty one, and the paper's default (section 4.1)."""
DEFAULT_SHARE = 0.05
PRAISE = ", best quality, extremely detailed"
"""What the original adds to prompts, and what is therefore to change nothing here."""
PRAISED_SHARE = 0.05


class Embeds(Protocol):
    """A base that reads prompts."""

    def embed(self, prompts: list[str]) -> Tensor:
        """Hidden states, float32 (N, tokens, width)."""
        ...


class Latents:
    """Cached latents on a device with the prompts' hidden states, growing with the folder."""

    def __init__(self, folder: Path, base: Embeds) -> None:
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
        states float32 (N, tokens, width) of their prompts, some of which say nothing.
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
