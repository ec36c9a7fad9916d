"""Train the network that reads a scene's maps out of its picture."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from cnctl.tiny.pictures import to_tensor
from cnctl.tiny.reader import FILE, SceneReader
from cnctl.tiny.scenes import HELD_OUT, Scene, render_scene, soft_edges
from examples.tiny.judge import softened
from examples.tiny.optim import cosine, set_rates

SPREAD = 2.5
"""Standard deviation of a joint's heat, pixels of 128."""
BATCH = 16


def save_reader(reader: SceneReader, folder: Path) -> None:
    """float16."""
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
    edges = F.avg_pool2d(_stacked(soft_edges(scene.outlines)[None] for scene in scenes), 2)
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
