"""An image at Stable Diffusion 1.5's true width on the CPU, ours beside diffusers'.

    python tests/benchmarks/true_width.py [--rounds 3] [--steps 5] [--threads 2] [--dtype bfloat16]

Random weights, 256 pixels, guidance, one ControlNet. The two sides take turns, first in one
process, then each in its own. Printed are the least seconds of each, by the clock and of CPU, and
the median of the ratios of all rounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from image_rows import ImageRow
from random_bases import build_base, fresh_network

SIDES = ("cnctl", "diffusers")
Round = dict[str, tuple[float, float]]
"""Seconds of the clock and of CPU, by side."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--sides", nargs="+", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sides:
        print(json.dumps(measure(asked)))
        return
    show("one process", _measured(asked, *SIDES, rounds=asked.rounds))
    apart: list[Round] = []
    for _ in range(asked.rounds):
        apart.append({side: _measured(asked, side, rounds=1)[0][side] for side in SIDES})
    show("a process each", apart)


def measure(asked: argparse.Namespace) -> list[Round]:
    """The rounds of these sides in this process; the first image of each is not measured."""
    torch.set_num_threads(asked.threads)
    base = build_base("SD 1.5", device="cpu", dtype=getattr(torch, asked.dtype))
    row = ImageRow(kind="SD 1.5", pixels=256, steps=asked.steps)
    sides = row.sides(base, fresh_network(base), reduced=False)
    for side in asked.sides:
        sides[side]()
    return [{side: _seconds(sides[side]) for side in asked.sides} for _ in range(asked.rounds)]


def _seconds(make: Callable[[], object]) -> tuple[float, float]:
    begin = time.perf_counter(), time.process_time()
    make()
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def _measured(asked: argparse.Namespace, *sides: str, rounds: int) -> list[Round]:
    how = {"steps": asked.steps, "threads": asked.threads, "dtype": asked.dtype, "rounds": rounds}
    flags = [text for name, value in how.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, __file__, *flags, "--sides", *sides]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def show(where: str, rounds: list[Round]) -> None:
    for index, kind in enumerate(("clock", "CPU")):
        least = {side: min(one[side][index] for one in rounds) for side in SIDES}
        ratios = [one["cnctl"][index] / one["diffusers"][index] for one in rounds]
        print(
            f"{where:24} {kind:6} cnctl {least['cnctl']:6.2f} s  diffusers "
            f"{least['diffusers']:6.2f} s  ratio {median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
