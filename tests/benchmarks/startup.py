"""How long `cnctl --help` takes, beside the bare interpreter and a peer: process time, in turn.

    python tests/benchmarks/startup.py [--runs 15] [--image]

Prints the least and the median of each in milliseconds, and the ratio of the medians to the
first. Aim: `cnctl --help` under 150 ms on an idle core. With --image: of one image on tiny, beside
what it imports, and of a mistyped name, which is to be answered before.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

BESIDE = Path(sys.executable).parent
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "cnctl --version": [str(BESIDE / "cnctl"), "--version"],
    "cnctl --help": [str(BESIDE / "cnctl"), "--help"],
    "cnctl generate --help": [str(BESIDE / "cnctl"), "generate", "--help"],
    "cnctl conditions": [str(BESIDE / "cnctl"), "conditions"],
    "hf --help": [str(BESIDE / "hf"), "--help"],
}

NETWORKS = (
    "from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel; "
    "from transformers import CLIPTextModel, CLIPTokenizer"
)
GENERATE = [str(BESIDE / "cnctl"), "generate", "--base", "tiny", "--cond", "canny", "--hint", "-q"]
HINT = str(Path(__file__).parents[2] / "examples/hints/canny-cat.png")
OF_AN_IMAGE = {
    "import torch": [sys.executable, "-c", "import torch"],
    "import the networks": [sys.executable, "-c", NETWORKS],
    "one image": [*GENERATE, HINT, "-p", "a cat", "-o", "-"],
    "a mistyped name": [*GENERATE, "missing.png", "-p", "a cat"],
}


def milliseconds(command: list[str]) -> float:
    """Wall time of one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, check="missing.png" not in command, capture_output=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--image", action="store_true")
    asked = parser.parse_args()
    runs, chosen = asked.runs, OF_AN_IMAGE if asked.image else COMMANDS
    commands = {name: words for name, words in chosen.items() if shutil.which(words[0])}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, words in commands.items():
            took = milliseconds(words)
            if number:  # the first round warms the disk's cache
                times[name].append(took)
    first = next(iter(times))
    reference = statistics.median(times[first])
    for name, took in times.items():
        median = statistics.median(took)
        print(
            f"{name:24} least {min(took):6.0f} ms  median {median:6.0f} ms  "
            f"{median / reference:5.1f}x {first}"
        )


if __name__ == "__main__":
    main()
