"""Networks that wait in the host's memory, and are on the device only while they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cnctl.models.base import Base


@contextmanager
def on_device(base: Base, *networks: Any) -> Iterator[None]:
    """Have networks on the base's device, and then back on its `offload_device`."""
    if base.offload_device == base.device:
        yield
        return
    for network in networks:
        network.to(base.device)
    try:
        yield
    finally:
        for network in networks:
            network.to(base.offload_device)
        torch.cuda.empty_cache()  # nothing without CUDA
