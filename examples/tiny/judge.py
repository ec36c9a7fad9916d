"""A small classifier of scenes: does a sample show the class and the colour that were asked?"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cnctl.tiny.pictures import to_tensor
from cnctl.tiny.scenes import Scene
from cnctl.tiny.shapes import CLASSES, COLOURS
from examples.tiny.dataset import held_out_scenes, training_scene
from examples.tiny.optim import cosine, set_rates

STEPS = 500
BATCH = 64
EXAMPLES = 8000


class SceneJudge(nn.Module):
    """Pictures (N, 3, 128, 128) in [-1, 1] to logits of 16 classes and of 12 colours."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for channels, wider in ((3, 24), (24, 48), (48, 96), (96, 128)):
            layers += [nn.Conv2d(channels, wider, 3, 2, 1), nn.GroupNorm(8, wider), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 128), nn.SiLU())
        self.kind = nn.Linear(128, len(CLASSES))
        self.colour = nn.Linear(128, len(COLOURS))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(pictures)
        return self.kind(features), self.colour(features)


def train_judge() -> tuple[SceneJudge, dict[str, float]]:
    """A judge trained from scratch in minutes, and how often it is right on held-out scenes."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pictures, truth = one_thing([training_scene(seed) for seed in range(EXAMPLES)])
    judge = SceneJudge()
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.02)
    for step in range(STEPS):
        set_rates([optimizer], cosine(step / STEPS, step=step, warm_up=20))
        chosen = rng.integers(len(pictures), size=BATCH)
        kinds, colours = judge(softened(to_tensor(pictures[chosen]), rng))
        loss = F.cross_entropy(kinds, truth[chosen, 0]) + F.cross_entropy(colours, truth[chosen, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pictures, truth = one_thing(held_out_scenes(500))
    return judge.eval(), accuracy(judge, pictures, truth)


def one_thing(scenes: list[Scene]) -> tuple[NDArray[np.uint8], Tensor]:
    """Pictures of scenes with one thing, and its class and colour as numbers (N, 2)."""
    single = [scene for scene in scenes if len(scene.objects) == 1]
    words = list(COLOURS)
    truth = [
        (CLASSES.index(scene.objects[0].name), words.index(scene.objects[0].colour))
        for scene in single
    ]
    return np.stack([scene.image for scene in single]), torch.tensor(truth)


def softened(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Sometimes blurred and noisy, so that the judge does not stumble over a soft sample."""
    if rng.random() < 0.5:
        pictures = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2.0, mode="bilinear")
    return pictures + 0.06 * torch.randn_like(pictures)


@torch.no_grad()
def accuracy(judge: SceneJudge, pictures: NDArray[np.uint8], truth: Tensor) -> dict[str, float]:
    """Shares of pictures judged to show their class, and their colour."""
    kinds, colours = judge(to_tensor(pictures))
    return {
        "class": round(float((kinds.argmax(1) == truth[:, 0]).float().mean()), 3),
        "colour": round(float((colours.argmax(1) == truth[:, 1]).float().mean()), 3),
    }


def class_and_colour(
    draw: Callable[[list[str], int], NDArray[np.uint8]], judge: SceneJudge
) -> dict[str, float]:
    """Judge 192 samples: every class in every colour, such as "a red cat", one seed each.

    draw(prompts, seed): their pictures.
    """
    pairs = [(kind, colour) for kind in CLASSES for colour in COLOURS]
    pictures = []
    for start in range(0, len(pairs), 16):
        prompts = [f"a {colour} {kind}" for kind, colour in pairs[start : start + 16]]
        pictures += list(draw(prompts, start))
    words = list(COLOURS)
    truth = torch.tensor([(CLASSES.index(kind), words.index(colour)) for kind, colour in pairs])
    return accuracy(judge, np.stack(pictures), truth)
