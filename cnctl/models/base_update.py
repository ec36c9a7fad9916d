"""Unfreeze parts of a base (section 3.4), and add such an update to a base."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cnctl.errors import CnctlError
from cnctl.models.base import Base


def unfreeze(base: Base, part: str) -> dict[str, nn.Parameter]:
    """Open part of the denoiser to gradients, and have the whole of it in float32 to learn in.

    part: one of the family's `unfreezable`.
    """
    base.denoiser.float()
    parameters = base.family.parameters_to_unfreeze(base.denoiser, part)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return parameters


@torch.no_grad()
def add_base_update(network: nn.Module, delta: Iterable[tuple[str, Tensor]]) -> None:
    """Add what a network of a base has learnt: differences by name; CnctlError if they misfit."""
    parameters = dict(network.named_parameters())
    for name, difference in delta:
        if name not in parameters or parameters[name].shape != difference.shape:
            raise CnctlError(
                f"the update of {name} does not fit this base",
                hint="use the base that it was trained with, or one of its family",
            )
        parameter = parameters[name]
        learnt = parameter.float() + difference.to(parameter.device, torch.float32)
        parameter.copy_(learnt)
