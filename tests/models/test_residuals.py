"""What ControlNets of different depths add to the blocks of one base."""

import pytest
import torch

from cnctl.models.residuals import Residuals
from cnctl.models.transformer.blocks import in_order, spread


@pytest.mark.parametrize(("count", "blocks"), [(6, 24), (12, 24), (5, 19), (3, 4), (4, 4), (1, 7)])
def test_residuals_are_spread_as_diffusers_does(count: int, blocks: int) -> None:
    """SD3Transformer2DModel: block i adds the residual int(i / (blocks / count))."""
    owners = {block: n for n, own in enumerate(spread(count, blocks)) for block in own}
    assert owners == {block: int(block / (blocks / count)) for block in range(blocks)}


def test_the_sum_of_two_depths_is_the_sum_by_block() -> None:
    random = torch.Generator().manual_seed(0)
    two, three = (
        torch.randn(2, 1, 6, 4, generator=random),
        torch.randn(3, 1, 6, 4, generator=random),
    )
    shallow = Residuals(tuple(two), grid=(2, 3), blocks=spread(2, 4))
    deep = Residuals(tuple(three), grid=(2, 3), blocks=((0,), (1,), (3,)))
    added = in_order(shallow + deep, 5, dtype=torch.float32)
    assert added is not None
    expected = [two[0] + three[0], two[0] + three[1], two[1], two[1] + three[2]]
    assert all(torch.equal(*pair) for pair in zip(added[:4], expected, strict=True))
    assert not added[4].any()
    halved = (shallow.scaled([0.5, 0.0]) + deep).by_block()
    assert torch.equal(halved[1], 0.5 * two[0] + three[1])
    assert torch.equal(halved[2], torch.zeros_like(two[1]))


def test_a_region_acts_on_the_tokens_of_the_image() -> None:
    """And on those behind them, which have no place, by its mean."""
    residuals = Residuals((torch.ones(1, 8, 1),), grid=(2, 3))
    region = torch.zeros(1, 1, 4, 6)
    region[..., :2] = 1
    [tensor] = residuals.within(region).tensors
    expected = torch.tensor([1.0, 0, 0, 1, 0, 0, 1 / 3, 1 / 3])
    torch.testing.assert_close(tensor.flatten(), expected)
