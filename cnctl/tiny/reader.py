"""A small network that reads a scene's maps out of its picture, where no detector's weights are.

Control's fidelity needs the hint detected again in the output. For drawn scenes this network does
so for all conditions at once: it gives `cnctl.plugin.Condition.from_maps` what a renderer gives it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cnctl.tiny.base import WEIGHTS
from cnctl.tiny.dataset import HELD_OUT, to_tensor
from cnctl.tiny.judge import softened
from cnctl.tiny.optim import cosine, set_rates
from cnctl.tiny.scenes import LABELS, NAMES, Scene, render_scene, soft_edges

PARTS = {"labels": len(LABELS), "depth": 1, "normals": 3, "edges": 1, "people": 18}
"""What is read, with its channels."""
WIDTHS = (24, 48, 64, 96)
PEAK = 0.3
"""Least height of a joint's heat map."""
SPREAD = 2.5
"""Standard deviation of a joint's heat, pixels of 128."""
BATCH = 16
FILE = "reader.safetensors"


class SceneReader(nn.Module):
    """Pictures (N, 3, H, W) in [-1, 1] to maps (N, channels, H / 2, W / 2)."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(zip((3, *WIDTHS), WIDTHS, strict=False))
        self.down = nn.ModuleList(_layer(i, o, stride=2) for i, o in pairs)
        self.up = nn.ModuleList(_layer(o + i, i) for i, o in reversed(pairs[1:]))
        self.head = nn.Conv2d(WIDTHS[0], sum(PARTS.values()), 1)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """By name of `PARTS`; logits of labels and edges, heat of people, values of the others."""
        skips = []
        features = pictures
        for layer in self.down:
            features = layer(features)
            skips.append(features)
        for layer, skip in zip(self.up, skips[-2::-1], strict=True):
            features = layer(torch.cat([_grown(features, like=skip), skip], dim=1))
        parts = self.head(features).split(list(PARTS.values()), dim=1)
        return dict(zip(PARTS, parts, strict=True))

    @torch.inference_mode()
    def read(self, image: NDArray[np.uint8]) -> dict[str, Any]:
        """The maps of an RGB uint8 (H, W, 3) picture, in `exact_maps`' form."""
        pictures = to_tensor(image[None])
        found = {name: _grown(part, like=pictures)[0] for name, part in self(pictures).items()}
        heat = found["people"].flatten(1).max(dim=1)
        y, x = np.divmod(heat.indices.numpy(), image.shape[1])
        seen = float(heat.values.mean()) > PEAK
        return {
            "image": image,
            "depth": found["depth"][0].clamp(0, 1).numpy(),
            "normals": F.normalize(found["normals"], dim=0).permute(1, 2, 0).numpy(),
            "labels": found["labels"].argmax(dim=0).byte().numpy(),
            "names": NAMES,
            "edges": found["edges"][0].sigmoid().numpy(),
            "people": np.stack([x, y], axis=1)[None] if seen else np.zeros((0, 18, 2)),
        }


def load_reader(folder: Path = WEIGHTS / "reader") -> SceneReader:
    """The reader that comes with the tiny base."""
    reader = SceneReader()
    reader.load_state_dict({n: t.float() for n, t in load_file(folder / FILE).items()})
    return reader.eval()


def save_reader(reader: SceneReader, folder: Path) -> None:
    """In float16."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: t.half().contiguous() for n, t in reader.state_dict().items()}, folder / FILE)


def train_reader(
    *, minutes: float, start: SceneReader | None, seed: int = 0, say: Callable[[str], None] = print
) -> SceneReader:
    """Train a reader, from scratch or on; every other scene shows a person, for the joints."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    reader = (start or SceneReader()).train()
    optimizer = torch.optim.AdamW(reader.parameters(), 3e-3, weight_decay=0.02)
    began, step, losses = time.monotonic(), 0, []
    while (spent := time.monotonic() - began) < 60 * minutes:
        set_rates([optimizer], cosine(spent / (60 * minutes), step=step, warm_up=30))
        scenes = [_training_scene(int(n), rng) for n in rng.integers(HELD_OUT, size=BATCH)]
        pictures = to_tensor(np.stack([scene.image for scene in scenes]))
        loss = reading_loss(reader(softened(pictures, rng)), scenes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            say(f"minute {spent / 60:.1f} step {step} loss {np.mean(losses[-100:]):.4f}")
    return reader.eval()


def reading_loss(found: dict[str, Tensor], scenes: list[Scene]) -> Tensor:
    """Cross entropy of labels and edges, distances of the others, each of about the same weight."""
    labels = _stacked(scene.segmentation[::2, ::2] for scene in scenes).long()
    depth = F.avg_pool2d(_stacked(scene.depth[None] for scene in scenes), 2)
    normals = _stacked(scene.normals[::2, ::2] for scene in scenes).permute(0, 3, 1, 2)
    edges = F.avg_pool2d(_stacked(soft_edges(scene)[None] for scene in scenes), 2)
    heat = _stacked(joint_heat(scene)[:, ::2, ::2] for scene in scenes)
    weight = 1 + 30 * heat  # joints are small
    return (
        F.cross_entropy(found["labels"], labels)
        + 4 * F.l1_loss(found["depth"], depth)
        + 4 * F.l1_loss(found["normals"], normals)
        + 2 * F.binary_cross_entropy_with_logits(found["edges"], edges)
        + 60 * (weight * (found["people"] - heat).square()).mean()
    )


def joint_heat(scene: Scene) -> NDArray[np.float32]:
    """A Gaussian around each joint, float32 (18, H, W) in [0, 1]; zero without people."""
    places = np.arange(scene.image.shape[0], dtype=np.float32)
    heat = np.zeros((18, len(places), len(places)), np.float32)
    for person in scene.keypoints:
        x, y = (np.exp(-((places - c[:, None]) ** 2) / (2 * SPREAD**2)) for c in person.T)
        heat = np.maximum(heat, y[:, :, None] * x[:, None, :])
    return heat


def _stacked(maps: Iterable[NDArray]) -> Tensor:
    return torch.from_numpy(np.stack(list(maps)))


def _training_scene(seed: int, rng: np.random.Generator) -> Scene:
    return render_scene(seed, show="person" if rng.random() < 0.5 else None)


def _layer(channels: int, wider: int, *, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, wider, 3, stride, 1),
        nn.GroupNorm(8, wider),
        nn.SiLU(),
        nn.Conv2d(wider, wider, 3, 1, 1),
        nn.GroupNorm(8, wider),
        nn.SiLU(),
    )


def _grown(features: Tensor, *, like: Tensor) -> Tensor:
    return F.interpolate(features, like.shape[2:], mode="bilinear")
