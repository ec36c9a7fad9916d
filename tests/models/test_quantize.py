"""Quantized weights: near the true ones, as small as counted, and gradient passes them."""

import pytest
import torch
from torch import nn

from cnctl.errors import MissingError
from cnctl.models.quantize import (
    LIBRARIES,
    check_library,
    floating_dtype,
    quantize,
    quantized_bytes,
)

TOLERANCE = {"int8": 0.02, "fp8": 0.06, "nf4": 0.2}


def build() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 64))
    return net.bfloat16().requires_grad_(False)


def bytes_of(module: nn.Module) -> int:
    """What its tensors hold, whatever class they have."""
    state = [t for t in module.state_dict().values() if isinstance(t, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in state)


@pytest.mark.parametrize("form", LIBRARIES)
def test_results_and_gradients_are_near(form: str) -> None:
    plain, small = build(), build()
    counted = quantized_bytes(small, form)
    quantize(small, form)
    given = torch.randn(4, 128, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = []
    for net in (plain, small):
        x = given.clone().requires_grad_(True)
        made = net(x)
        (gradient,) = torch.autograd.grad(made.float().square().sum(), x)
        found.append((made.float(), gradient.float()))
    for expected, quantized in zip(*found, strict=True):
        assert (quantized - expected).norm() <= TOLERANCE[form] * expected.norm()
        assert not torch.equal(quantized, expected)
    assert not any(parameter.requires_grad for parameter in small.parameters())
    assert floating_dtype(small) == torch.bfloat16
    # Code books and empty scales of activations come on top: a few hundred bytes.
    assert abs(bytes_of(small) - counted) < 1000
    assert counted < 0.6 * bytes_of(plain)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="--quantize nf4 needs bitsandbytes") as caught:
        check_library("nf4")
    assert caught.value.hint.startswith("pip install bitsandbytes")
