"""Kill a training run at random moments, again and again; nothing may be lost.

    python tests/benchmarks/kills.py [--kills 200] [--base tiny]

The run has averaged weights, accumulation, warm-up and data workers, and saves after each step.
Every time that it comes to its end, in spite of the kills, its weights and its log must be those of
a run that nobody killed. Exits with 1 where they are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from cnctl.commands.train.run import TrainRequest, train

SETTINGS: dict[str, Any] = {
    "steps": 30,
    "batch_size": 1,
    "gradient_accumulation": 2,
    "ema": 0.9,
    "lr_warmup": 4,
    "learning_rate": 1e-3,
    "checkpoint_every": 1,
    "preview_every": 0,
}


def survive(request: TrainRequest, folder: Path, *, kills: int, seed: int = 0) -> int:
    """Kill runs of this request so often; returns how many ended whole all the same.

    Raises AssertionError where one ended otherwise than a run that nobody killed.
    """
    expected = _run_whole(request, folder / "whole")
    moments, ended, done = random.Random(seed), 0, 0
    out = folder / "killed"
    while done < kills:
        killed = _start_and_kill(request, out, moments)
        done += killed
        if not killed or done == kills:
            if killed:
                _run_whole(request, out)
            assert digest(out) == expected, f"after {done} kills the run ended otherwise"
            shutil.rmtree(out)
            ended += 1
    return ended


def digest(out: Path) -> str:
    """Digest of the weights and the log of a run, without the times."""
    found = hashlib.sha256(next((out / "controlnet").glob("*.safetensors")).read_bytes())
    for line in (out / "log.jsonl").read_text().splitlines():
        entry = json.loads(line) | {"seconds": None}
        found.update(json.dumps(entry, sort_keys=True).encode())
    return found.hexdigest()


def _run_whole(request: TrainRequest, out: Path) -> str:
    train(request, out, resume=True)
    return digest(out)


def _start_and_kill(request: TrainRequest, out: Path, moments: random.Random) -> bool:
    """Go on with the run and kill it some time later; False where it ended before."""
    threads = torch.get_num_threads()
    child = _processes().Process(target=_train_in_child, args=(request, out, threads))
    child.start()
    if moments.random() < 0.8:  # else it may be killed before it has done anything
        _wait_for_news(out / "checkpoints", child)
    time.sleep(moments.uniform(0, 0.4))
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, or not yet begun
        child.kill()
    child.join()
    return child.exitcode != 0


def _processes() -> Any:
    """New processes that have imported all but hold nothing of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cnctl.commands.train.run"])
    return context


def _train_in_child(request: TrainRequest, out: Path, threads: int) -> None:
    os.setpgrp()  # so that data workers are killed along
    resumes = any(out.glob("checkpoints/step-*"))
    torch.set_num_threads(threads % 2 + 1 if resumes else threads)  # the first number must hold
    multiprocessing.set_start_method("fork", force=True)  # of data workers, as a command has it
    train(request, out, resume=True)


def _wait_for_news(folder: Path, child: Any) -> None:
    """Until the run has begun to write, so that kills fall among checkpoints."""
    known = _names(folder)
    while child.is_alive() and _names(folder) == known:
        time.sleep(0.01)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--base", default="tiny")
    arguments = parser.parse_args()
    request = TrainRequest(
        condition="canny",
        data="scenes:40",
        base=arguments.base,
        device="cpu",
        settings=SETTINGS | {"workers": 2},
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            ended = survive(request, Path(folder), kills=arguments.kills)
        except AssertionError as error:
            sys.exit(str(error))
    print(f"{arguments.kills} kills, {ended} runs ended, all with the same bits")


if __name__ == "__main__":
    main()
