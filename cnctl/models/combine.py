"""Arithmetic on whole ControlNets, tensor by tensor: moved to another base, averaged.

All of it is computed in float32 and given in the precision of the (first) ControlNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from cnctl.errors import CnctlError
from cnctl.tensorfiles.lazy import LazyTensor, Tensors


def transfer(control: Tensors, *, old: Tensors, new: Tensors) -> Tensors:
    """Add new - old to each tensor that the ControlNet copied from the base `old`.

    The original's tool_transfer_control: layers that no base has stay as they are. old, new: the
    encoders of two bases of one family, by diffusers' names.
    """
    for name in {**old, **new}:
        shapes = [tensors[name].shape for tensors in (control, old, new) if name in tensors]
        if len(shapes) < 3 or len(set(shapes)) > 1:
            raise CnctlError(
                f"the ControlNet and the two bases are not of one family: {name} differs",
                hint="give the base that the ControlNet was trained on, and a fine-tune of it",
            )
    return control | {name: _moved(control[name], old[name], new[name]) for name in old}


def _moved(control: LazyTensor, old: LazyTensor, new: LazyTensor) -> LazyTensor:
    def read() -> torch.Tensor:
        offset = new.read().float() - old.read().float()
        return (control.read().float() + offset).to(control.dtype)

    return replace(control, read=read)


def average(controls: Sequence[Tensors], shares: Sequence[float]) -> Tensors:
    """The sum of ControlNets, each times its share. They must have the same tensors."""
    first = controls[0]

    def mixed(name: str) -> LazyTensor:
        def read() -> torch.Tensor:
            parts = zip(controls, shares, strict=True)
            total = sum(share * control[name].read().float() for control, share in parts)
            return torch.as_tensor(total).to(first[name].dtype)

        return replace(first[name], read=read)

    return {name: mixed(name) for name in first}
