"""What the layer that reads the hint starts from in a fresh ControlNet for a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

GAUSSIAN, ZERO = HINT_STARTS = ("gaussian", "zero")


@torch.no_grad()
def start_hint(layer: Any, hint_start: str, *, seed: int) -> None:
    """Give a linear layer or convolution that is zero the weights that `hint_start` names.

    "gaussian" keeps the variance of the hint's latents. Nothing changes by it, since the links
    to the base are zero (equation 3); but their first gradients depend on the hint, which from
    "zero", as in diffusers, they do only once this layer has grown: tests/benchmarks/
    transformer_starts.py.
    """
    if hint_start == GAUSSIAN and layer.weight.device.type != "meta":
        layer.weight.copy_(draw_weight(layer.weight.shape, seed=seed))


def draw_weight(shape: Sequence[int], *, seed: int) -> Tensor:
    """The weight of such a layer, by "gaussian"; float32."""
    drawn = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
    return drawn / prod(shape[1:]) ** 0.5
