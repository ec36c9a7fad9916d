"""How long `cnctl --help` takes, beside the bare interpreter and a peer: process time, in turn.

    python tests/benchmarks/startup.py [--runs 15]

Prints the least and the median of each in milliseconds, and the ratio of the medians to the
first. Aim: `cnctl --help` under 150 ms on an idle core.
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


def milliseconds(command: list[str]) -> float:
    """Wall time of one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    commands = {name: words for name, words in COMMANDS.items() if shutil.which(words[0])}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, words in commands.items():
            took = milliseconds(words)
            if number:  # the first round warms the disk's cache
                times[name].append(took)
    reference = statistics.median(times["python -c pass"])
    for name, took in times.items():
        median = statistics.median(took)
        print(
            f"{name:24} least {min(took):6.0f} ms  median {median:6.0f} ms  "
            f"{median / reference:5.1f}x python"
        )


if __name__ == "__main__":
    main()
