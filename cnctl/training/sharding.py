"""Tensors that may be sharded, one shard in each process: gathered, and sharded alike.

FSDP and the third stage of ZeRO shard weights. All processes call what gathers, in the same order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from cnctl.models.network import Network


def in_shards(network: nn.Module) -> bool:
    """Whether this process holds only a part of its weights."""
    return any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in network.parameters())


def full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor; the tensor itself where it is not sharded."""
    if isinstance(tensor, DTensor):
        return tensor.full_tensor()
    if hasattr(tensor, "ds_id"):
        from deepspeed.zero import GatheredParameters

        with GatheredParameters([tensor]):
            return tensor.detach().clone()
    return tensor


def gather(tensors: Iterable[tuple[str, Tensor]], *, keep: bool) -> dict[str, Tensor]:
    """Full tensors by name, on the CPU, gathered one at a time; {} where `keep` is false."""
    kept = {}
    for name, tensor in tensors:
        full = full_tensor(tensor.detach())
        if keep:
            kept[name] = full.cpu()
    return kept


def shard_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A full tensor sharded as this parameter is, on its device."""
    placed = value.to(parameter.device)
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        mesh, placements = parameter.device_mesh, parameter.placements
        return distribute_tensor(placed, mesh, placements, src_data_rank=None)
    return placed


def to_meta(network: Network) -> Network:
    """A copy of the network on the meta device, without weights, for `materialize`."""
    weights = list(network.parameters())
    without = (nn.Parameter(w.detach().to("meta"), requires_grad=w.requires_grad) for w in weights)
    return copy.deepcopy(network, dict(zip(map(id, weights), without, strict=True)))


def materialize(meta: Network, weights: Mapping[str, Tensor], device: torch.device) -> Network:
    """A copy of the network, in eval mode, with these weights by name; the others stay on meta."""
    network = copy.deepcopy(meta)
    placed = {name: weight.to(device) for name, weight in weights.items()}
    network.load_state_dict(placed, strict=False, assign=True)
    return network.eval()
