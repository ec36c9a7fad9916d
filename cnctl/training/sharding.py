"""Tensors that may lie in shards, of which each process holds one: made whole, and laid out alike.

FSDP and the third stage of ZeRO shard weights. A tensor knows how it lies, so nothing else asks.
What gathers is to be called by all processes, in the same order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from cnctl.models.network import Network


def in_shards(network: nn.Module) -> bool:
    """Whether a process holds a part of its weights alone."""
    return any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in network.parameters())


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, which is itself where it does not lie in shards."""
    if isinstance(tensor, DTensor):
        return tensor.full_tensor()
    if hasattr(tensor, "ds_id"):
        from deepspeed.zero import GatheredParameters

        with GatheredParameters([tensor]):
            return tensor.detach().clone()
    return tensor


def gather(tensors: Iterable[tuple[str, Tensor]], *, keep: bool) -> dict[str, Tensor]:
    """Whole tensors by name, on the CPU, one after the other; {} in a process that keeps none."""
    kept = {}
    for name, tensor in tensors:
        full = full_tensor(tensor.detach())
        if keep:
            kept[name] = full.cpu()
    return kept


def shard_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor as this parameter lies: on its device, and of it this process's shard."""
    placed = value.to(parameter.device)
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        mesh, placements = parameter.device_mesh, parameter.placements
        return distribute_tensor(placed, mesh, placements, src_data_rank=None)
    return placed


def to_meta(network: Network) -> Network:
    """The network without its weights, to be `materialize`d with them."""
    weights = list(network.parameters())
    without = (nn.Parameter(w.detach().to("meta"), requires_grad=w.requires_grad) for w in weights)
    return copy.deepcopy(network, dict(zip(map(id, weights), without, strict=True)))


def materialize(meta: Network, weights: Mapping[str, Tensor], device: torch.device) -> Network:
    """A network like this one with these weights, by name; without weights it stays so."""
    network = copy.deepcopy(meta)
    placed = {name: weight.to(device) for name, weight in weights.items()}
    network.load_state_dict(placed, strict=False, assign=True)
    return network.eval()
