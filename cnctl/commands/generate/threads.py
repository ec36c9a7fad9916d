"""How many threads of the CPU make a batch of images; its last bits depend on that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cnctl.models.base import Base

SMALL_UNET = 50_000_000
"""Parameters."""
SMALL_BATCH = 4 * 128 * 128
"""Pixels of all images together."""


def choose_threads(base: Base, *, pixels: int, asked: int | None) -> int:
    """The number of threads for a batch of this many pixels; 0 for another device than the CPU.

    asked: what the user or the record of an earlier image says. Else torch's own number, but one
    for a small network and a small batch: there two threads took 0.87 of the time of one on idle
    cores, and 2.1 of it on busy ones, where each operation waits for both.
    """
    if base.device.type != "cpu":
        return 0
    parameters = sum(parameter.numel() for parameter in base.denoiser.parameters())
    is_small = parameters < SMALL_UNET and pixels <= SMALL_BATCH
    return asked or (1 if is_small else torch.get_num_threads())


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Compute with this number of threads inside the block; 0 changes nothing."""
    usual = torch.get_num_threads()
    torch.set_num_threads(count or usual)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
