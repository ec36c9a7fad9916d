"""Networks that wait in the host's memory, and are on the device only while they run.

Where one is larger than the device, so do its layers, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from torch import nn

from cnctl.models.base import Base


@contextmanager
def on_device(base: Base, *networks: Any) -> Iterator[None]:
    """Have networks on the base's device, and then back on its `offload_device`."""
    if base.offload_device == base.device:
        yield
        return
    networks = tuple(one for one in networks if not has_moving_layers(one))
    for network in networks:
        network.to(base.device)
    try:
        yield
    finally:
        for network in networks:
            network.to(base.offload_device)
        torch.cuda.empty_cache()  # nothing without CUDA


def move_layers(network: nn.Module, device: torch.device) -> None:
    """From now on have each layer of a network on this device only while it runs.

    diffusers' group offloading by leaves; on CUDA the next layer moves while one runs.
    """
    apply_group_offloading(
        network,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        use_stream=device.type == "cuda",
        low_cpu_mem_usage=True,
    )


def has_moving_layers(network: Any) -> bool:
    """Whether `move_layers` was called with this network."""
    return isinstance(network, nn.Module) and _is_group_offload_enabled(network)
