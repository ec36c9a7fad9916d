"""Networks that wait in the host's memory, and are on the device only while they work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cnctl.models.base import Base


@contextmanager
def at_work(base: Base, *networks: Any) -> Iterator[None]:
    """These networks on the base's device, and then where they wait: see `Base.home`."""
    if base.home == base.device:
        yield
        return
    for network in networks:
        network.to(base.device)
    try:
        yield
    finally:
        for network in networks:
            network.to(base.home)
        torch.cuda.empty_cache()  # nothing without CUDA
