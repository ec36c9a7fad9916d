"""One image at a time from `cnctl generate --jobs -`, beside a new process for each; JSON.

    python tests/benchmarks/job_stream.py [--images 5] [--base tiny]

Expected: a process spends seconds on imports and on reading weights, a stream once. "first" is the
time from the start of the stream to its first answer, "next" the mean of the others.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HINT = Path(__file__).parents[2] / "examples/hints/canny-cat.png"


def main() -> None:
    """Print the seconds of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--base", default="tiny")
    asked = parser.parse_args()
    command = [sys.executable, "-m", "cnctl", "generate", "--base", asked.base, "--cond", "canny"]
    command += ["--hint", "-q"]
    with tempfile.TemporaryDirectory() as folder:
        alone = processes(command, asked.images, folder)
        first, following = stream(command, asked.images, folder)
    mean = {"process": sum(alone) / len(alone), "next": sum(following) / len(following)}
    print(json.dumps({**mean, "first": first, "ratio": mean["next"] / mean["process"]}, indent=2))


def processes(command: list[str], images: int, folder: str) -> list[float]:
    """Seconds of each image, made by a separate process."""
    seconds = []
    for seed in range(images):
        begin = time.perf_counter()
        words = [*command, str(HINT), "-p", "a cat", "--seed", str(seed), "-o", "alone"]
        subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    return seconds


def stream(command: list[str], images: int, folder: str) -> tuple[float, list[float]]:
    """Seconds until the first image, and of each of the others."""
    seconds, begin = [], time.perf_counter()
    with subprocess.Popen(
        [*command, "--jobs", "-", "-o", "stream"],
        cwd=folder,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        for seed in range(images):
            job = {"image": str(HINT), "prompt": "a cat", "seed": seed}
            print(json.dumps(job), file=process.stdin, flush=True)
            process.stdout.readline()
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
        process.stdin.close()
    return seconds[0], seconds[1:]


if __name__ == "__main__":
    main()
