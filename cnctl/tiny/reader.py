"""A small network that estimates a scene's maps from its picture, in place of detectors.

Control's fidelity needs the hint detected again in the output. For drawn scenes this network does
so for all conditions at once: it gives `cnctl.plugin.Condition.from_maps` what a renderer gives it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from cnctl.tiny import WEIGHTS
from cnctl.tiny.pictures import to_tensor
from cnctl.tiny.scenes import LABELS, NAMES

PARTS = {"labels": len(LABELS), "depth": 1, "normals": 3, "edges": 1, "people": 18}
"""What is read, with its channels."""
WIDTHS = (24, 48, 64, 96)
PEAK = 0.3
"""Least height of a joint's heat map."""
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
        """Returns logits of labels and edges, heat of people, values of other `PARTS`, by name."""
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
