"""A full Stable Diffusion 1.5 control checkpoint of true size through `cnctl convert`.

    python tests/benchmarks/convert.py [--folder /tmp] [--container pth]

Makes 5.7 GB of random weights (needs 14 GB of disk, all of it given back), converts them in a
process of its own, and prints the largest memory of any process that took part, as a ratio to the
1.45 GB of control weights, and the seconds; beside it a plain copy of as many bytes, and what a
user would write by hand: torch.load, then safetensors' save_file. Files are out of the page cache
before each reading.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from cnctl.formats.architecture import Architecture
from cnctl.formats.keymap import pairs
from cnctl.formats.lazy import LazyTensor, Tensors
from cnctl.formats.stream import total_bytes, write_tensors

SD15 = Architecture(
    in_channels=4,
    hint_channels=3,
    hint_widths=(16, 32, 96, 256),
    widths=(320, 640, 1280, 1280),
    layers=2,
    depths=(1, 1, 1, 0),
    middle_depth=1,
    text_width=768,
    linear=False,
)
# Numbers of parameters beside the ControlNet: the U-Net, the VAE and the text encoder.
COMPANIONS = {
    "model.diffusion_model": 859_520_964,
    "first_stage_model": 83_653_863,
    "cond_stage_model.transformer": 123_060_480,
}
PIECE = 10_000_000
BY_HAND = """
import sys, torch
from safetensors.torch import load_file, save_file
source, target = sys.argv[1:]
whole = torch.load(source, map_location="cpu") if source.endswith(".pth") else load_file(source)
save_file({k: v for k, v in whole.items() if k.startswith("control_model.")}, target)
"""
# A small process in between: a fork begins with the memory of its parent.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def random(shape: tuple[int, ...]) -> LazyTensor:
    """Drawn when it is written."""
    return LazyTensor(torch.float32, shape, lambda: 0.02 * torch.randn(shape))


def control() -> Tensors:
    return {f"control_model.{pair.original}": random(pair.shape) for pair in pairs(SD15)}


def companions() -> Tensors:
    """As many numbers as the real ones, in pieces."""
    return {
        f"{prefix}.{start}": random((min(PIECE, count - start),))
        for prefix, count in COMPANIONS.items()
        for start in range(0, count, PIECE)
    }


def make(folder: Path, container: str) -> Path:
    path = folder / "full.safetensors"
    write_tensors(path, control() | companions(), metadata=lambda _: {})
    if container == "safetensors":
        return path
    from safetensors.torch import load_file

    torch.save(load_file(path), folder / "full.pth")
    path.unlink()
    return folder / "full.pth"


def forget(path: Path) -> None:
    """Take a file out of the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(command: list[str]) -> tuple[float, float, int]:
    """Seconds, those of a CPU core, and the largest memory in bytes of any process."""
    run = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, *command], capture_output=True, text=True, check=True
    )
    seconds, core, kilobytes = run.stdout.split()[-3:]
    return float(seconds), float(core), 1024 * int(kilobytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="where to make the files")
    parser.add_argument("--container", choices=("safetensors", "pth"), default="safetensors")
    arguments = parser.parse_args()
    weights = total_bytes(control())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        source = make(folder, arguments.container)
        size = source.stat().st_size
        print(f"{source.name}: {size / 1e9:.2f} GB, of it control {weights / 1e9:.2f} GB")
        target = folder / "control.safetensors"
        python = [sys.executable, "-m", "cnctl"]
        commands = {
            "cnctl info": [*python, "info", str(source)],
            "cnctl convert": [*python, "convert", str(source), str(target), "-q"],
            "cnctl convert, half": [
                *[*python, "convert", str(source), str(target), "-q", "--dtype", "float16"],
            ],
            "torch.load, save_file": [sys.executable, "-c", BY_HAND, str(source), str(target)],
            "cp of the result": ["cp", str(folder / "copied"), str(target)],
        }
        for label, command in commands.items():
            if label.startswith("cp"):
                target.rename(folder / "copied")
                forget(folder / "copied")
            else:
                target.unlink(missing_ok=True)
            forget(source)
            seconds, core, peak = measured(command)
            print(
                f"{label:22} {seconds:6.1f} s ({core:5.1f} s CPU)  peak {peak / 1e9:5.2f} GB  "
                f"{peak / weights:5.2f} x the control weights"
            )


if __name__ == "__main__":
    main()
