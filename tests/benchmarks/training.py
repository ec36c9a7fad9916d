"""`cnctl train` beside diffusers' own train_controlnet.py: samples a second, and memory.

    python tests/benchmarks/training.py --script train_controlnet.py [--pixels 128] [--batch-size 2]
    python tests/benchmarks/training.py --script train_controlnet.py --true-size --device cuda

The script is examples/controlnet/train_controlnet.py of the diffusers repository; it is not part of
cnctl, and needs the package datasets. Each side is a process with the same base (random weights, of
reduced width unless --true-size), the same ControlNet to start from, and the same pairs on disk.
Prints for each side the seconds of a step after the first two (least and median; CPU seconds of all
threads, on CUDA those that pass), samples a second and the most memory of the process (on CUDA, of
the device). "cached" is the second epoch with --cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from random_bases import KINDS, build_base, ddim, with_text_encoder

from cnctl.models.unet.controlnet import build_controlnet

WARM_UP = 2
WIDTHS = {
    "block_out_channels": (64, 128, 256, 256),
    "cross_attention_dim": 64,
    "attention_head_dim": 8,
}
CLOCK = """
import json, resource, sys, time
import torch
marks = []
now = time.perf_counter if torch.cuda.is_available() else time.process_time
def tick(*_, **__):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    marks.append(now())
def report():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    print(json.dumps([[b - a for a, b in zip(marks, marks[1:])], peak]), flush=True)
"""
OURS = (
    CLOCK
    + """
from cnctl import TrainRequest, train
from cnctl.training.trainer import StepReport
given = json.loads(sys.argv[1])
out = given.pop("out")
train(TrainRequest(**given), out, on_event=lambda e: isinstance(e, StepReport) and tick())
report()
"""
)
THEIRS = (
    CLOCK
    + """
import runpy
from accelerate import Accelerator
Accelerator.log, Accelerator.init_trackers = tick, lambda *_, **__: None  # called once a step
made = Accelerator.__init__
def without_trackers(self, *args, log_with=None, **more):
    made(self, *args, **more)
Accelerator.__init__ = without_trackers
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
report()
"""
)


def main() -> None:
    """Run both sides in turn, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--script", type=Path, required=True, help="diffusers' train_controlnet.py")
    parser.add_argument("--pixels", type=int, default=None, help="128, or 512 at true size")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8, help="timed in each run")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--true-size", action="store_true")
    asked = parser.parse_args()
    asked.pixels = asked.pixels or (512 if asked.true_size else 128)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_base(folder / "base", folder / "start", true_size=asked.true_size)
        make_pairs(folder / "pairs", asked.batch_size * (WARM_UP + asked.steps), asked.pixels)
        found: dict[str, list[tuple[list[float], float]]] = {}
        for number in range(asked.rounds):
            for side, command in sides(asked, folder, number).items():
                found.setdefault(side, []).append(run(command, asked.steps))
    for side, runs in found.items():
        print_row(side, runs, of=found["diffusers"], batch=asked.batch_size)


def sides(asked: argparse.Namespace, folder: Path, number: int) -> dict[str, list[str]]:
    """The commands, in their order: the cache is filled by the second and read by the third."""
    steps = asked.steps + WARM_UP
    ours = {
        "condition": "canny",
        "data": str(folder / "pairs"),
        "base": str(folder / "base"),
        "init_from": str(folder / "start"),
        "device": asked.device,
        "dtype": "bfloat16" if asked.device == "cuda" else "float32",
        "settings": {
            "steps": steps,
            "batch_size": asked.batch_size,
            "resolution": asked.pixels,
            "workers": 0,
            "preview_every": 0,
            "checkpoint_every": 10**6,
            "max_grad_norm": 1.0,
            "prompt_dropout": 0.0,
        },
    }
    theirs = {
        "pretrained_model_name_or_path": folder / "base",
        "controlnet_model_name_or_path": folder / "start",
        "train_data_dir": folder / "pairs",
        "image_column": "image",
        "conditioning_image_column": "conditioning_image",
        "caption_column": "text",
        "cache_dir": folder / "datasets",
        "output_dir": folder / f"theirs-{number}",
        "resolution": asked.pixels,
        "train_batch_size": asked.batch_size,
        "max_train_steps": steps,
        "mixed_precision": "bf16" if asked.device == "cuda" else "no",
    }

    def cnctl(name: str, **more: Any) -> list[str]:
        request = {**ours, "out": str(folder / f"{name}-{number}"), **more}
        return [sys.executable, "-c", OURS, json.dumps(request)]

    cache = str(folder / f"cache-{number}")
    words = [word for name, value in theirs.items() for word in (f"--{name}", str(value))]
    return {
        "diffusers": [sys.executable, "-c", THEIRS, str(asked.script), *words],
        "cnctl": cnctl("plain"),
        "cnctl, filling a cache": cnctl("filling", cache=cache),
        "cnctl, cached": cnctl("cached", cache=cache),
    }


def run(command: list[str], steps: int) -> tuple[list[float], float]:
    """Seconds of the timed steps, and bytes."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[2][-300:]}\n{done.stderr[-3000:]}")
    seconds, peak = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds[-steps:], peak


def print_row(
    side: str,
    runs: list[tuple[list[float], float]],
    *,
    of: list[tuple[list[float], float]],
    batch: int,
) -> None:
    """One side, and its ratio to diffusers."""
    own, stock = ([s for seconds, _ in some for s in seconds] for some in (runs, of))
    peak, most = (max(peak for _, peak in some) for some in (runs, of))
    print(
        f"{side:24} {min(own):.3f} s (median {median(own):.3f}) a step  "
        f"{batch / min(own):6.2f} samples/s  {min(own) / min(stock):.2f} of the time "
        f"(median {median(own) / median(stock):.2f})  "
        f"{peak / 1e9:.2f} GB, {peak / most:.2f}"
    )


def make_base(folder: Path, start: Path, *, true_size: bool) -> None:
    """A diffusers folder, and a fresh ControlNet for it."""
    if not true_size:
        kind = KINDS["SD 1.5"]
        KINDS["SD 1.5"] = replace(kind, reduced=WIDTHS)
    base = with_text_encoder(
        build_base("SD 1.5", device="cpu", dtype=torch.float32, reduced=not true_size)
    )
    encoder = base.text_encoders[0]
    parts = {
        "vae": base.vae,
        "unet": base.denoiser,
        "text_encoder": encoder.model,
        "tokenizer": encoder.tokenizer,
        "scheduler": ddim(),
    }
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline"}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = [type(part).__module__.partition(".")[0], type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    build_controlnet(base.denoiser).save(start, description={})


def make_pairs(folder: Path, count: int, pixels: int) -> None:
    """A folder as datasets' imagefolder reads it, and cnctl too."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    with (folder / "metadata.jsonl").open("w") as file:
        for number in range(count):
            names = f"{number}.png", f"{number}-hint.png"
            for name in names:
                noise = rng.integers(0, 256, (pixels, pixels, 3), np.uint8)
                Image.fromarray(noise).save(folder / name, compress_level=1)
            line = {"image_file_name": names[0], "conditioning_image_file_name": names[1]}
            file.write(json.dumps(line | {"text": f"a picture of thing {number}"}) + "\n")


if __name__ == "__main__":
    main()
