"""How batches are read; test_order.py tests which examples are in them."""

import os
import select
import signal
import time
from pathlib import Path

import numpy as np

from cnctl.data import Pair
from cnctl.settings import TrainSettings
from cnctl.training.data_loader import read_batches


class Large:
    """Examples that fill the pipe between a worker and its parent. Each leaves its reader's id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.groups = (0,) * 8

    def __len__(self) -> int:
        return len(self.groups)

    def load(self, index: int, rng: np.random.Generator | None) -> Pair:
        (self.folder / str(os.getpid())).touch()
        return Pair(np.zeros((512, 512, 3), np.uint8), np.zeros((512, 512, 1), np.uint8), "")

    def name(self, index: int) -> str:
        return str(index)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    reader, writer = os.pipe()  # which is at its end when all processes that may write have ended
    parent = os.fork()
    if not parent:
        batches = read_batches(Large(tmp_path), range(1000), TrainSettings(workers=2))
        next(batches)
        signal.pause()
    os.close(writer)
    deadline = time.monotonic() + 300
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)  # now they are stuck with what nobody takes
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert select.select([reader], [], [], 60)[0], "a worker is left over"
    os.close(reader)
