"""How time and memory grow with the work, and whether a line fits; plots into docs/images.

    python tests/benchmarks/growth.py [steps batch pixels controls images pairs] [--large] [--plots]

Each measure is the CPU time of all threads, the least of some rounds, which other programs disturb
less than the time that passes. Prints the line's start and slope, and how far a point is off it at
most, as a share. --large: to 50,000 images in a folder and 3,000,000 pairs in an index, which takes
half an hour. --plots: write docs/images/growth-NAME.svg.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from cnctl import AnnotateRequest, annotate
from cnctl.commands.shared.report.plots import plot
from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.families import load_base
from cnctl.models.network import Network
from cnctl.models.unet.load import load_controlnet
from cnctl.sampling.denoise import sample

PLOTS = Path(__file__).parents[2] / "docs" / "images"
OPEN = """
import json, sys, time
from cnctl.data.open import open_dataset
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before, begin = resident(), time.process_time()
dataset = open_dataset(sys.argv[1])
print(json.dumps([time.process_time() - begin, resident() - before]))
"""


class Measure(NamedTuple):
    """at: where it is measured; large: further values. take(value): what it costs there."""

    at: tuple[int, ...]
    take: Callable[[int], float]
    unit: str
    rounds: int = 3
    large: tuple[int, ...] = ()


def main() -> None:
    """Print a row for each measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--plots", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.names or MEASURES:
        measure = MEASURES[name]
        at = measure.at + (measure.large if asked.large else ())
        points = [(value, min(measure.take(value) for _ in range(measure.rounds))) for value in at]
        print(json.dumps({"over": name, **fit(points, measure.unit)}), flush=True)
        if asked.plots:
            path = PLOTS / f"growth-{name.replace(' ', '-')}.svg"
            path.write_text(plot(_curves(points), x_name=f"{name}; {measure.unit}"))


def fit(points: list[tuple[int, float]], unit: str) -> dict[str, object]:
    """The line of least squares, each point weighed by what it is, so that shares count."""
    x, y = np.array(points, float).T
    slope, start = np.polyfit(x, y, 1, w=1 / y)
    off = np.abs(start + slope * x - y) / y
    return {
        "unit": unit,
        "points": points,
        "start": start,
        "each": slope,
        "most_off": off.max(),
    }


def _curves(points: list[tuple[int, float]]) -> dict[str, list[tuple[float, float]]]:
    line = fit(points, "")
    start, each = (float(line[name]) for name in ("start", "each"))  # type: ignore[arg-type]
    return {
        "measured": [(float(x), y) for x, y in points],
        "line": [(float(x), start + each * x) for x, _ in points],
    }


@cache
def tiny() -> tuple[Base, Network]:
    """The embedded base and its ControlNet for edges."""
    base = load_base("tiny")
    return base, load_controlnet(base.path / "controls" / "canny", dtype=base.dtype)[0]


def images(*, steps: int = 5, batch: int = 1, pixels: int = 128, controls: int = 1) -> float:
    """CPU seconds of images on tiny, guided; the first call pays what is made once."""
    base, network = tiny()
    hint = torch.zeros(1, 3, pixels, pixels)
    hint[..., pixels // 2] = 1
    begin = time.process_time()
    sample(
        base,
        [Control(network, hint)] * controls,
        ["a red house"] * batch,
        seeds=list(range(batch)),
        height=pixels,
        width=pixels,
        steps=steps,
        guidance_scale=3.0,
    )
    return time.process_time() - begin


def of_area(area: int) -> float:
    """CPU seconds of an image with so many pixels."""
    return images(pixels=round(area**0.5))


def folder_of_images(count: int) -> float:
    """CPU seconds of annotating a folder of small images for their edges."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "in")
        folder.mkdir()
        rng = np.random.default_rng(0)
        first = folder / "0.png"
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(first)
        for number in range(1, count):
            (folder / f"{number}.png").hardlink_to(first)
        begin = time.process_time()
        annotate(AnnotateRequest(conditions=["canny"], inputs=[str(folder)], out=Path(name, "out")))
        return time.process_time() - begin


def index(count: int, *, of: int) -> float:
    """CPU seconds (of=0) or resident bytes (of=1) of opening an index of so many pairs."""
    with tempfile.TemporaryDirectory() as folder:
        with Path(folder, "metadata.jsonl").open("w") as file:
            for n in range(count):
                pair = {"image": f"images/{n:08}.png", "hint": f"hints/{n:08}.png"}
                prompt = f"a red house beside a tall green tree, number {n}"
                file.write(json.dumps(pair | {"prompt": prompt}) + "\n")
        done = subprocess.run(
            [sys.executable, "-c", OPEN, folder], check=True, capture_output=True, text=True
        )
    return float(json.loads(done.stdout)[of])


SIDES = (64, 128, 192, 256)
MEASURES = {
    "steps": Measure((2, 5, 10, 20), lambda n: images(steps=n), "CPU seconds"),
    "batch": Measure((1, 2, 4, 8), lambda n: images(batch=n), "CPU seconds"),
    "pixels": Measure(tuple(side * side for side in SIDES), of_area, "CPU seconds"),
    "controls": Measure((0, 1, 2, 3, 4), lambda n: images(controls=n), "CPU seconds"),
    "images": Measure((250, 1000, 4000), folder_of_images, "CPU seconds", 1, (16_000, 50_000)),
    "pairs": Measure(
        (10_000, 40_000, 160_000), partial(index, of=0), "CPU seconds", 1, (640_000, 3_000_000)
    ),
    "bytes of pairs": Measure(
        (40_000, 160_000), partial(index, of=1), "bytes", 1, (640_000, 3_000_000)
    ),
}


if __name__ == "__main__":
    main()
