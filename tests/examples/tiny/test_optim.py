"""The optimizers of the recipe against what they claim."""

import pytest
import torch

from examples.tiny.optim import ExponentialMovingAverage, Muon, cosine, orthogonal


def test_orthogonal_evens_out_singular_values():
    matrix = torch.randn(24, 60, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_muon_takes_matrices_of_one_shape_together_as_it_takes_each_alone():
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 4), (6, 4), (4, 6), (5, 2, 3, 3)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients = [torch.randn(shape, generator=generator) for shape in shapes]
    together = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    alone = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    for optimizer in (Muon(together), *(Muon([parameter]) for parameter in alone)):
        for parameter, gradient in zip([*together, *alone], gradients * 2, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    for one, other, before in zip(together, alone, start, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-4)  # products in bfloat16
        assert not torch.equal(one, before)


def test_cosine_warms_up_and_ends_low():
    assert cosine(0.0, step=0, warm_up=10) == pytest.approx(0.1)
    assert cosine(0.0, step=50, warm_up=10) == pytest.approx(1)
    assert cosine(1.0, step=50, warm_up=10) == pytest.approx(0.01)


def test_average_swaps_back_and_forth():
    layer = torch.nn.Linear(2, 2)
    average = ExponentialMovingAverage(layer.parameters(), 0.5)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1)
    average.update()
    average.swap()
    assert torch.all(layer.weight > before)
    assert torch.all(layer.weight < before + 1)
    average.swap()
    torch.testing.assert_close(layer.weight.detach(), before + 1)
