"""A small captioner of scenes, for the automatic prompt mode on the tiny base."""

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from numpy.typing import NDArray
from torch import Tensor, nn

from cnctl.tiny.captions import PLACES
from cnctl.tiny.pictures import to_tensor
from cnctl.tiny.shapes import CLASSES, COLOURS

WORDS = list(COLOURS)
BACKDROPS = ("plain", *PLACES)
HEADS = {"thing": CLASSES, "colour": WORDS, "backdrop": BACKDROPS, "wall": WORDS}
"""What is said of a scene, and the words for it; a plain backdrop is a wall."""


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
