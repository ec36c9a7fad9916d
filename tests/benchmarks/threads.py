"""One and two threads of the CPU for images on tiny, side by side, in turns; JSON of the ratios.

    python tests/benchmarks/threads.py [--rounds 3]

Expected: a second thread gains little on small images and nearly half on large ones, as long as no
other program uses the cores; where one does, each operation waits for the slower thread.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from cnctl import GenerateRequest, generate

HINT = Path(__file__).parents[2] / "examples/hints/canny-cat.png"
CASES = ((128, 1, 20), (128, 4, 20), (512, 1, 5))
"""Side in pixels, images in a batch, steps."""


def main() -> None:
    """Print the best time on two threads over the best on one, and the load of the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    seconds(128, 1, 1, 1)  # imports
    found: dict[str, object] = {"load": os.getloadavg()[0]}
    for side, images, steps in CASES:
        rounds = [[seconds(side, images, steps, n) for n in (1, 2)] for _ in range(asked.rounds)]
        one, two = (min(column) for column in zip(*rounds, strict=True))
        found[f"{images} of {side} pixels"] = {"one": one, "two": two, "ratio": two / one}
    print(json.dumps(found, indent=2))


def seconds(side: int, images: int, steps: int, threads: int) -> float:
    """Of a batch, from the request to the last file."""
    with tempfile.TemporaryDirectory() as out:
        request = GenerateRequest(
            controls=["canny"],
            images=[HINT],
            ready_hint=True,
            base="tiny",
            prompt="a cat",
            settings={"steps": steps},
            size=(side, side),
            count=images,
            batch_size=images,
            seed=0,
            threads=threads,
            out=out,
        )
        begin = time.perf_counter()
        for _ in generate(request):
            pass
        return time.perf_counter() - begin


if __name__ == "__main__":
    main()
