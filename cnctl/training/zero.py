"""DeepSpeed's ZeRO: each process holds a part of the flattened moments of each parameter group.

Steps are counted per group. All processes read full tensors, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOMENTS = ("exp_avg", "exp_avg_sq")


def is_zero(optimizer: Any) -> bool:
    """Whether this optimizer is one of ZeRO's, of stage 1, 2 or 3."""
    return hasattr(optimizer, "bit16_groups") or hasattr(optimizer, "fp16_groups")


def read_state(optimizer: Any, parameters: Sequence[nn.Parameter]) -> Iterator[dict[str, Tensor]]:
    """AdamW's full state of each parameter; {} before the first step."""
    from deepspeed.utils import safe_get_full_optimizer_state

    flat_of = {id(p): flat for group, flat in _partitions(optimizer) for p in group}
    for parameter in parameters:
        state = optimizer.state.get(flat_of[id(parameter)])
        full = {kind: safe_get_full_optimizer_state(parameter, kind) for kind in MOMENTS if state}
        yield full | ({"step": state["step"].clone()} if state else {})


def write_state(optimizer: Any, moments: Mapping[nn.Parameter, Mapping[str, Tensor]]) -> None:
    """Set the state of each parameter; those of one group must have the same step."""
    from deepspeed.utils import lazy_init_hp_params_optimizer_state as link

    for group, flat in _partitions(optimizer):
        step = moments.get(group[0], {}).get("step", torch.zeros(()))
        zeros = {kind: torch.zeros_like(flat) for kind in MOMENTS}
        optimizer.state[flat] = {"step": step.to(flat.device), **zeros}
        if not hasattr(group[0], "ds_id"):
            link(group, flat, optimizer.state)
    for parameter, known in moments.items():
        for kind in MOMENTS & known.keys():
            _write(parameter, known[kind].to(parameter.device), kind)


def _partitions(optimizer: Any) -> Iterator[tuple[list[nn.Parameter], Tensor]]:
    """The groups of parameters, each with this process's part of it in float32."""
    if hasattr(optimizer, "bit16_groups"):
        return zip(optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True)
    return zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True)


def _write(parameter: Any, value: Tensor, kind: str) -> None:
    from deepspeed import utils

    if not hasattr(parameter, "ds_id"):
        utils.safe_set_full_optimizer_state(parameter, value, kind)
        return
    # ZeRO's third stage pads the last part, where its function to write a full tensor fails.
    size, rank = parameter.ds_tensor.numel(), torch.distributed.get_rank()
    padded = F.pad(value.flatten(), (0, size * torch.distributed.get_world_size() - value.numel()))
    utils.safe_set_local_optimizer_state(parameter, padded[rank * size :][:size], kind)
