"""Ends process groups in several ways, each in one of two processes, and prints what is left.

python ended_groups.py RANK PORT...: one port for each way.
"""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from cnctl.errors import CnctlError
from cnctl.training.process_group import ProcessGroup

WAYS = ("done", "refused", "bug", "interrupted", "partner killed")


class Network(nn.Module):
    """A layer that may fail. It is in the frames of its errors, as a trained network is."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error
        self.layer = nn.Linear(2, 2)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if self.error:
            raise self.error
        return self.layer(given)


def train(way: str, group: ProcessGroup) -> None:
    errors = {
        "bug": None if group.main else ValueError("a bug"),
        "interrupted": KeyboardInterrupt(),
    }
    network = Accelerator(cpu=True).prepare(Network(errors.get(way)))
    network(torch.ones(1, 2)).sum().backward()
    if way == "partner killed" and not group.main:
        print(flush=True)
        os._exit(9)
    with group.raise_on_all():
        if way == "refused" and not group.main:
            raise CnctlError("a refusal")


def end(way: str) -> dict[str, object]:
    """The error that it ends by, and the threads that are left."""
    error = ""
    try:
        with ProcessGroup("cpu") as group:
            train(way, group)
    except BaseException as caught:
        error = type(caught).__name__
    return {"error": error, "threads": threads_of_groups()}


def threads_of_groups() -> list[str]:
    """Threads of this process that belong to a process group, by name (on Linux)."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # the thread has just ended
            names.append(path.read_text().strip())
    return [name for name in names if name.startswith(("gloo", "pt_gloo", "pt_tcpstore"))]


def main(rank: str, *ports: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for way, port in zip(WAYS, ports, strict=True):
        os.environ["MASTER_PORT"] = port
        print(json.dumps({way: end(way)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
