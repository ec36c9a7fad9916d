from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from cnctl.models.base import lock
from cnctl.models.families import load_base
from cnctl.models.residuals import Residuals
from cnctl.models.text_features import TextFeatures
from cnctl.models.unet.branch import predict_noise
from cnctl.training.frozen_conv import FrozenConv2d, use_frozen_convs


@pytest.mark.parametrize(
    "geometry", [{}, {"stride": 2, "padding": 1}, {"groups": 2, "bias": False}]
)
def test_the_gradient_is_torchs_own(geometry: dict) -> None:
    torch.manual_seed(0)
    plain = lock(nn.Conv2d(4, 6, 3, **geometry))
    gradients = []
    for _ in range(2):
        torch.manual_seed(1)
        x = torch.randn(2, 4, 9, 8, requires_grad=True)
        (plain(x) ** 2).sum().backward()
        gradients.append(x.grad)
        use_frozen_convs(plain)
    assert type(plain) is FrozenConv2d
    torch.testing.assert_close(*gradients)


def test_an_unfrozen_weight_learns_as_ever() -> None:
    convolution = nn.Conv2d(2, 2, 3)
    use_frozen_convs(convolution)
    convolution(torch.ones(1, 2, 5, 5)).sum().backward()
    assert convolution.weight.grad is not None
    torch.testing.assert_close(convolution.weight.grad, torch.full((2, 2, 3, 3), 9.0))


def test_a_locked_unet_keeps_less_and_its_encoder_nothing(random_base: Path) -> None:
    unet = load_base(random_base).denoiser
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    text = torch.randn(1, 5, unet.config.cross_attention_dim, generator=generator)
    parameters = {p.untyped_storage().data_ptr() for p in unet.parameters()}

    def kept_bytes() -> int:
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        middle = torch.zeros((), requires_grad=True)
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            control = Residuals(((torch.zeros(()),) * 12) + (middle,))
            predict_noise(unet, latents, torch.tensor(5), TextFeatures(text), control)
        return sum(
            tensor.untyped_storage().nbytes()
            for place, tensor in kept.items()
            if place not in parameters
        )

    plain = kept_bytes()
    for block in (*unet.up_blocks, unet.conv_out):
        use_frozen_convs(block)
    spared = kept_bytes()
    assert spared < 0.95 * plain
    use_frozen_convs(unet)  # encoder and middle block kept nothing to begin with
    assert kept_bytes() == spared
