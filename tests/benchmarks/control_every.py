"""What --control-every gains and costs, beside control that ends at half; JSON.

    python tests/benchmarks/control_every.py [--base tiny] [--cond canny] [--data scenes:24]

Each row: the share of the branch's runs, the seconds of all images over those of the first row
(from the first step to the last), the mean
fidelity, its difference from the first row (paired, with the 95 % interval over hints), and the
root mean square distance of the images from those of the first row, in levels of 255.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnctl import EvaluateRequest, evaluate
from cnctl.commands.evaluate.intervals import mean_interval
from cnctl.commands.shared.events import Stage

ROWS: Mapping[str, Mapping[str, Any]] = {
    "every step": {},
    "first 4, then every 2nd": {"control_every": 2},
    "first 4, then every 4th": {"control_every": 4},
    "first 4, then every 8th": {"control_every": 8},
    "until half": {"control_end": 0.5},
}


def main() -> None:
    """Print a row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--cond", default="canny")
    parser.add_argument("--data", default="scenes:24")
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            name: measure(asked, settings, Path(folder, str(number)))
            for number, (name, settings) in enumerate(ROWS.items())
        }
    print(json.dumps(compare(rows, asked.steps), indent=2))


def measure(asked: argparse.Namespace, settings: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The seconds, scores and images of one setting."""
    moments: list[float] = []

    def note(event: object) -> None:
        if isinstance(event, Stage) and event.what.startswith("generating"):
            moments.append(time.perf_counter())

    found = evaluate(
        EvaluateRequest(
            condition=asked.cond,
            data=asked.data,
            base=asked.base,
            settings={"steps": asked.steps, **settings},
            out=out,
        ),
        on_event=note,
    )
    pictures = sorted(found.sets[0].pictures, key=lambda one: one.case)
    return {
        "seconds": moments[-1] - moments[0],
        "fidelity": [one.fidelity for one in pictures],
        "images": [np.asarray(Image.open(one.path), np.float32) for one in pictures],
    }


def compare(rows: Mapping[str, Mapping[str, Any]], steps: int) -> dict[str, dict[str, Any]]:
    """Each row beside the first."""
    first = next(iter(rows.values()))
    table = {}
    for name, row in rows.items():
        differences = np.subtract(row["fidelity"], first["fidelity"])
        paired = mean_interval(list(differences))
        squares = [
            np.mean((a - b) ** 2) for a, b in zip(row["images"], first["images"], strict=True)
        ]
        table[name] = {
            "branch": share(ROWS[name], steps),
            "time": row["seconds"] / first["seconds"],
            "fidelity": float(np.mean(row["fidelity"])),
            "difference": [paired.mean, paired.low, paired.high],
            "distance": float(np.sqrt(np.mean(squares))),
        }
    return table


def share(settings: Mapping[str, Any], steps: int) -> float:
    """How often the branch runs, over the steps."""
    acts = round(steps * settings.get("control_end", 1))
    every = settings.get("control_every", 1)
    return sum(step < 4 or (step - 4) % every == 0 for step in range(acts)) / steps


if __name__ == "__main__":
    main()
