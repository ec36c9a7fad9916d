"""What reads the hint in a fresh ControlNet for a transformer."""

import pytest
import torch
from torch import nn

from cnctl.models.transformer.starts import start_hint


@pytest.mark.parametrize("layer", [nn.Linear(64, 512), nn.Conv2d(16, 512, 2, stride=2)])
def test_gaussian_keeps_the_variance_and_follows_the_seed(layer: nn.Linear | nn.Conv2d) -> None:
    assert layer.bias is not None
    bias = layer.bias.detach().clone()
    start_hint(layer, "gaussian", seed=1)
    first = layer.weight.clone()
    random = torch.Generator().manual_seed(0)
    hint = torch.randn((256, 64) if layer.weight.ndim == 2 else (256, 16, 2, 2), generator=random)
    made = layer(hint).detach().flatten(1) - bias
    assert float(made.std()) == pytest.approx(1, rel=0.1)
    start_hint(layer, "gaussian", seed=1)
    assert torch.equal(layer.weight, first)
    start_hint(layer, "gaussian", seed=2)
    assert not torch.equal(layer.weight, first)
    assert torch.equal(layer.bias, bias)


def test_zero_leaves_it_as_diffusers_has_it() -> None:
    layer = nn.Linear(4, 4)
    before = layer.weight.clone()
    start_hint(layer, "zero", seed=1)
    assert torch.equal(layer.weight, before)
