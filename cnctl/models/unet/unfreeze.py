"""Section 3.4, large-scale training: parts of the base that learn along with the ControlNet."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from cnctl.errors import CnctlError

UNLOCKS = ("decoder", "all")
DECODER = ("up_blocks.", "conv_norm_out.", "conv_out.")


def unlockable_parameters(unet: UNet2DConditionModel, unlock: str) -> dict[str, nn.Parameter]:
    """What may learn along, by name: the "decoder" (the original's `sd_locked=False`) or "all"."""
    named = unet.named_parameters()
    return {name: p for name, p in named if unlock == "all" or name.startswith(DECODER)}


def unlock_parameters(unet: UNet2DConditionModel, unlock: str) -> dict[str, nn.Parameter]:
    """Open a U-Net's parameters to gradients, and have the whole of it in float32 to learn in."""
    unet.float()
    parameters = unlockable_parameters(unet, unlock)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return parameters


@torch.no_grad()
def add_delta(network: nn.Module, delta: Iterable[tuple[str, Tensor]]) -> None:
    """Add what a network of a base has learnt: differences by name; CnctlError if they misfit."""
    parameters = dict(network.named_parameters())
    for name, difference in delta:
        if name not in parameters or parameters[name].shape != difference.shape:
            raise CnctlError(
                f"what was learnt of the base's {name} does not fit this base",
                hint="use the base that it was trained with, or one of its family",
            )
        parameter = parameters[name]
        learnt = parameter.float() + difference.to(parameter.device, torch.float32)
        parameter.copy_(learnt)
