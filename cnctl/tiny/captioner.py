"""A small captioner of scenes, for the automatic prompt mode on the tiny base."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import Tensor, nn

from cnctl.tiny.captions import PLACES
from cnctl.tiny.dataset import held_out_scenes, to_tensor, training_scene
from cnctl.tiny.judge import softened
from cnctl.tiny.optim import cosine, set_rates
from cnctl.tiny.scenes import FULL, Scene
from cnctl.tiny.shapes import CLASSES, COLOURS

WORDS = list(COLOURS)
BACKDROPS = ("plain", *PLACES)
HEADS = {"thing": CLASSES, "colour": WORDS, "backdrop": BACKDROPS, "wall": WORDS}
"""What is told of a scene, and the words for it; a wall's colour matters before plain ones only."""
EXAMPLES = 16_000
STEPS = 2_500
BATCH = 64


class SceneCaptioner(ModelMixin, ConfigMixin):
    """Pictures (N, 3, 128, 128) in [-1, 1] to logits (N, words) for each of `HEADS`."""

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 128), hidden: int = 96) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for channels, wider in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(channels, wider, 3, 2, 1), nn.GroupNorm(8, wider), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, hidden))
        self.heads = nn.ModuleDict({n: nn.Linear(hidden, len(w)) for n, w in HEADS.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        features = F.silu(self.body(pictures))
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def caption(self, image: NDArray[np.uint8]) -> str:
        """A picture RGB uint8 (H, W, 3) of any size, in words: "a red cat on a blue background"."""
        first = next(self.parameters())
        pixels = to_tensor(image[None]).to(first.device, first.dtype)
        logits = self(F.interpolate(pixels, (128, 128), mode="area"))
        return phrase({name: words[int(logits[name].argmax())] for name, words in HEADS.items()})


def phrase(seen: dict[str, str]) -> str:
    """What each head saw, in one sentence of the grammar that the base was trained on."""
    place = "on a {wall} background" if seen["backdrop"] == "plain" else PLACES[seen["backdrop"]][0]
    text = f"a {{colour}} {{thing}} {place}".format(**seen)
    return text.replace("a orange", "an orange")


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
