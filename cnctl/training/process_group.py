"""The processes that train together: an event in one of them reaches all."""

from __future__ import annotations

import gc
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
import torch.distributed.nn  # imported later, its default arguments would keep the group
from accelerate.state import AcceleratorState, PartialState

from cnctl.errors import CnctlError, DeviceError, ReportedByOtherRank
from cnctl.models.device import is_out_of_memory, pick_device
from cnctl.system.processes import rank, world_size

T = TypeVar("T")
PATIENCE = timedelta(hours=2)
"""How long processes wait for what one does alone: previews and checkpoints."""


class ProcessGroup:
    """As many processes as the environment says, one by default; each has its own device.

    All methods are to be called by all of them, in the same order.
    """

    def __init__(self, device: str | None = None) -> None:
        self.rank, self.size = rank(), world_size()
        self._releases: list[Callable[[], object]] = []
        if self.size == 1:
            return
        try:
            # accelerate chooses the backend: gloo for the CPU, NCCL for CUDA.
            PartialState(cpu=pick_device(device).type == "cpu", timeout=PATIENCE)
        except BaseException as error:
            _end_process_group(error)
            raise

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Part, and say so in one line where another process has gone without a word."""
        if self.size == 1:
            return
        try:
            while self._releases:
                self._releases.pop()()
        finally:
            _end_process_group(error)
        if isinstance(error, RuntimeError) and re.search("gloo|NCCL|[Pp]eer", str(error)):
            raise DeviceError(
                "another process of this run has gone: killed, or its machine was lost",
                hint="see its messages; --resume continues from the last checkpoint",
            ) from error

    def release_at_end(self, release: Callable[[], object]) -> None:
        """Call this before the process group ends, whether by an error or not."""
        self._releases.append(release)

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def any(self, value: bool) -> bool:
        """Whether it is true in any of them."""
        return self._sum(float(value)) > 0

    def mean(self, value: float) -> float:
        """The mean over all processes."""
        return self._sum(value) / self.size

    def broadcast(self, value: T) -> T:
        """The value of the main process, in all of them."""
        values = [value]
        if self.size > 1:
            torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    @contextmanager
    def raise_on_all(self) -> Iterator[None]:
        """Raise in all processes where the block fails in one of them.

        The main process raises the error of the first that has failed, the others
        `ReportedByOtherRank`.
        There must be nothing in the block that waits for another process.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            failed = error
        if self.size == 1 and failed:
            raise failed
        if self.size == 1 or not self.any(failed is not None):
            return
        errors: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(errors, failed and _describe(failed))
        number, (kind, text, hint) = next((n, e) for n, e in enumerate(errors) if e)
        if not self.main:
            raise ReportedByOtherRank(text, exit_code=kind.exit_code) from failed
        if number == 0 and failed:
            raise failed
        raise kind(text, hint=hint)

    def _sum(self, value: float) -> float:
        if self.size == 1:
            return value
        device = PartialState().device
        total = torch.tensor(value, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        return total.item()


def _end_process_group(error: BaseException | None) -> None:
    """Destroy it and drop all references to it: its threads end with the last one.

    When Python exits, a thread that is left may abort the process (pytorch issue 190489). A
    parallel network refers to the group, and the frames of a traceback refer to the network.
    """
    deepspeed = sys.modules.get("deepspeed")
    if deepspeed and deepspeed.comm.is_initialized():
        deepspeed.comm.destroy_process_group()  # DeepSpeed refers to it too
    elif torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
    for each in _with_causes(error):
        traceback.clear_frames(each.__traceback__)
    gc.collect()


def _with_causes(error: BaseException | None) -> list[BaseException]:
    """The error and all that came before it, each once, for they may refer to one another."""
    found: list[BaseException] = []
    left = [error]
    while left:
        each = left.pop()
        if each is not None and each not in found:
            found.append(each)
            left += [each.__cause__, each.__context__]
    return found


def _describe(error: Exception) -> tuple[type[CnctlError], str, str]:
    """The error as it is sent to the others: its type, sentence and hint."""
    if isinstance(error, CnctlError):
        return type(error), str(error), error.hint
    if is_out_of_memory(error):
        return DeviceError, "out of memory in one of the processes", "take a smaller --batch-size"
    return Unexpected, f"unexpected {type(error).__name__}: {error}", "see it with --debug"


class Unexpected(CnctlError):
    """A bug in another process."""

    exit_code = 1
