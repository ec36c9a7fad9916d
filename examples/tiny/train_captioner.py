"""Train the captioner of scenes."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cnctl.tiny.captioner import BACKDROPS, HEADS, WORDS, SceneCaptioner
from cnctl.tiny.pictures import to_tensor
from cnctl.tiny.scenes import FULL, Scene
from cnctl.tiny.shapes import CLASSES
from examples.tiny.dataset import held_out_scenes, training_scene
from examples.tiny.judge import softened
from examples.tiny.optim import cosine, set_rates

EXAMPLES = 16_000
STEPS = 2_500
BATCH = 64


def train_captioner(out: Path, *, steps: int = STEPS, seed: int = 0) -> dict[str, float]:
    """Train a captioner from scratch, write it in half precision, and return `accuracy`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pictures, truth = simple_scenes(map(training_scene, range(EXAMPLES)))
    captioner = SceneCaptioner()
    optimizer = torch.optim.AdamW(captioner.parameters(), 2e-3, weight_decay=0.02)
    for step in range(steps):
        set_rates([optimizer], cosine(step / steps, step=step, warm_up=20))
        chosen = rng.integers(len(pictures), size=BATCH)
        logits = captioner(softened(to_tensor(pictures[chosen]), rng))
        losses = [F.cross_entropy(logits[name], truth[name][chosen]) for name in HEADS]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    captioner.eval().half().save_pretrained(out)
    return accuracy(captioner.float())


def simple_scenes(scenes: Iterable[Scene]) -> tuple[NDArray[np.uint8], dict[str, Tensor]]:
    """Pictures (N, H, W, 3) of scenes with one thing before a backdrop that has a name.

    Beside them the true words as numbers (N,) for each head; -100 where there is nothing to say.
    """
    shown = [
        (scene.image, *true_words(scene))
        for scene in scenes
        if len(scene.objects) == 1 and scene.backdrop.kind in BACKDROPS
    ]
    pictures, *columns = zip(*shown, strict=True)
    return np.stack(pictures), dict(zip(HEADS, map(torch.tensor, columns), strict=True))


def true_words(scene: Scene) -> tuple[int, int, int, int]:
    """The truth about a scene for each of `HEADS`."""
    thing, backdrop = scene.objects[0], scene.backdrop
    wall = WORDS.index(backdrop.colours[0]) if backdrop.kind == "plain" else -100
    kind = BACKDROPS.index(backdrop.kind)
    return CLASSES.index(thing.name), WORDS.index(thing.colour), kind, wall


@torch.no_grad()
def accuracy(captioner: SceneCaptioner, count: int = 500) -> dict[str, float]:
    """How often each head is right on held-out scenes, where there is something to be right on."""
    pictures, truth = simple_scenes(held_out_scenes(count, level=FULL))
    logits = captioner(to_tensor(pictures))
    return {
        name: round(float((logits[name].argmax(1) == wanted)[wanted >= 0].float().mean()), 3)
        for name, wanted in truth.items()
    }
