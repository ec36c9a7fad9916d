"""Convolutions that save only the weight for the backward pass while it is frozen."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input


class FrozenConv2d(nn.Conv2d):
    """A convolution that does not save its input for the backward pass while its weight is frozen.

    torch's saves the input of every convolution through which gradient flows, though the
    gradient with respect to the input needs the weight alone. In Stable Diffusion's locked decoder
    that is a tenth of all that a training step saves.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if weight.requires_grad or not input.requires_grad or self.padding_mode != "zeros":
            return super()._conv_forward(input, weight, bias)
        return _Convolve.apply(
            input, weight, bias, self.stride, self.padding, self.dilation, self.groups
        )


def use_frozen_convs(module: nn.Module) -> None:
    """Turn all plain convolutions of a module into FrozenConv2d, in place."""
    for part in module.modules():
        if type(part) is nn.Conv2d:
            part.__class__ = FrozenConv2d


class _Convolve(Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.geometry = input.shape, geometry
        return F.conv2d(input, weight, bias, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        inward = conv2d_input(ctx.shape, weight.to(gradient.dtype), gradient, *ctx.geometry)
        return inward, None, None, None, None, None, None
