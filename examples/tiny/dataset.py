"""Scenes rendered once and kept on disk, and their latents."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cnctl.system.atomic import atomic_file
from cnctl.tiny.scenes import FULL, HELD_OUT, NOVICE, USUAL, Scene, render_scene

LEVELS = (NOVICE, USUAL, NOVICE, USUAL, FULL, NOVICE, USUAL, NOVICE, USUAL, FULL)
CHUNK = 2000  # scenes per file


def training_scene(seed: int) -> Scene:
    """The training scene of a seed: the curriculum's levels in turn."""
    return render_scene(seed, level=LEVELS[seed % len(LEVELS)])


def held_out_scenes(count: int, *, level: int = USUAL) -> list[Scene]:
    """Scenes for scores, never trained on."""
    return [render_scene(HELD_OUT + index, level=level) for index in range(count)]


def render_chunk(folder: Path, first: int) -> Path:
    """Render the seeds from `first` on, where they are missing: an npy of 2000 and a json."""
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"scenes-{first:08d}.npy"
    if not path.exists():
        scenes = [training_scene(seed) for seed in range(first, first + CHUNK)]
        path.with_suffix(".json").write_text(json.dumps([s.prompt for s in scenes]))
        with atomic_file(path, overwrite=False) as file:
            np.save(file, np.stack([scene.image for scene in scenes]))
    return path


class Pictures:
    """Rendered scenes as memory-mapped pictures, growing with the folder."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("scenes-*.npy"))
        self.chunks = [np.load(path, mmap_mode="r") for path in paths]
        self.prompts: list[str] = []
        for path in paths:
            self.prompts += json.loads(path.with_suffix(".json").read_text())

    def __len__(self) -> int:
        return len(self.prompts)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], list[str]]:
        """Random pictures (size, H, W, 3), half of them mirrored, with their prompts."""
        indices = rng.integers(len(self), size=size)
        pictures = [self.chunks[i // CHUNK][i % CHUNK] for i in indices]
        flipped = [p[:, ::-1] if rng.random() < 0.5 else p for p in pictures]
        return np.stack(flipped), [self.prompts[i] for i in indices]


def to_pictures(tensor: Tensor) -> NDArray[np.uint8]:
    """The inverse of `cnctl.tiny.pictures.to_tensor`, clipped."""
    pixels = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


@torch.no_grad()
def encode_folder(
    folder: Path, encode: Callable[[NDArray[np.uint8]], Tensor], *, batch_size: int = 50
) -> Iterator[Path]:
    """Latents float16 (2, N, C, h, w) beside each chunk, plain and mirrored, where missing."""
    for path in sorted(folder.glob("scenes-*.npy")):
        target = path.with_name(path.name.replace("scenes", "latents"))
        if not target.exists():
            pictures = np.load(path, mmap_mode="r")
            halves = []
            for view in (pictures, pictures[:, :, ::-1]):
                parts = [
                    encode(view[start : start + batch_size]).half().cpu().numpy()
                    for start in range(0, len(view), batch_size)
                ]
                halves.append(np.concatenate(parts))
            with atomic_file(target, overwrite=False) as file:
                np.save(file, np.stack(halves))
        yield target
