"""The number of torch's threads, on which the last bits of a run on the CPU depend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from cnctl.commands.train.record import RunRecord
from cnctl.system import processes
from cnctl.system.cores import cores


@contextmanager
def same_threads(started: RunRecord | None, *, note: Callable[[str], None]) -> Iterator[None]:
    """Set torch to the number of threads that the run was started with, if the cores suffice."""
    usual = torch.get_num_threads()
    wanted = started.threads if started and started.device == "cpu" else 0
    chosen = wanted if 0 < wanted * processes.world_size() <= cores() else usual
    if chosen != usual:
        note(f"torch's threads: {chosen}, as at the start, not {usual}, for the same bits")
    torch.set_num_threads(chosen)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
