"""A full Stable Diffusion 1.5 control checkpoint of true size through `cnctl convert`.

    python tests/benchmarks/convert.py [--folder /tmp] [--container pth]
    python tests/benchmarks/convert.py --alone         # the control weights, 1.45 GB
    python tests/benchmarks/convert.py --reduced       # of a narrower one, 0.37 GB

Makes 5.7 GB of random weights (needs 14 GB of disk, all of it given back) and converts them. Prints
the seconds, best of some rounds, their ratio to sha256sum's in the same round (median, least to
most), and the most memory that all processes of the command together had, as a ratio to the 1.45 GB
of control weights. Beside it what bounds it: the disk's own speed (dd, of what is read and of what
is written), the sha256 of the source, the import of torch; and what a user would write by hand:
torch.load, then safetensors' save_file. The source is out of the page cache each time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import psutil
import torch

from cnctl.models.unet.checkpoint.architecture import Architecture
from cnctl.models.unet.checkpoint.keymap import pairs
from cnctl.tensorfiles.lazy import LazyTensor, Tensors
from cnctl.tensorfiles.stream import total_bytes, write_tensors

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

HASH = """
import hashlib, sys
hashlib.file_digest(open(sys.argv[1], "rb"), "sha256")
"""
SHA256SUM = "sha256sum"


def random(shape: tuple[int, ...]) -> LazyTensor:
    """Drawn when it is written."""
    return LazyTensor(torch.float32, shape, lambda: 0.02 * torch.randn(shape))


REDUCED = replace(SD15, widths=(160, 320, 640, 640))
CONFIG = {"attention_head_dim": 8}
"""What no shape of the reduced one tells."""


def control(architecture: Architecture = SD15) -> Tensors:
    return {f"control_model.{pair.original}": random(pair.shape) for pair in pairs(architecture)}


def companions() -> Tensors:
    """As many numbers as the real ones, in pieces."""
    return {
        f"{prefix}.{start}": random((min(PIECE, count - start),))
        for prefix, count in COMPANIONS.items()
        for start in range(0, count, PIECE)
    }


def make(folder: Path, container: str, *, alone: bool, reduced: bool) -> Path:
    path = folder / "full.safetensors"
    tensors = control(REDUCED if reduced else SD15)
    if not alone and not reduced:
        tensors |= companions()
    write_tensors(path, tensors, metadata=lambda _: {})
    (folder / "config.json").write_text(json.dumps(CONFIG))
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


@dataclass
class Cost:
    seconds: float
    core_seconds: float
    memory: int
    """Bytes, of all processes together; what they share is counted once."""


def measure(command: list[str]) -> Cost:
    """Run it, and look at its memory twenty times a second."""
    start, before = time.perf_counter(), os.times()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    memory = 0
    while process.poll() is None:
        memory = max(memory, sum(map(_memory, [process, *_descendants(process)])))
        time.sleep(0.05)
    seconds, after = time.perf_counter() - start, os.times()
    assert process.returncode == 0, command
    core = after.children_user + after.children_system
    return Cost(seconds, core - before.children_user - before.children_system, memory)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0


def commands(source: Path, target: Path, *, weights: int) -> dict[str, list[str]]:
    cnctl = [sys.executable, "-m", "cnctl"]
    config = ["--config", str(source.with_name("config.json"))]
    convert = [*cnctl, "convert", str(source), str(target), *config, "--overwrite", "-q"]
    return {
        "dd: read the source": ["dd", f"if={source}", "of=/dev/null", "bs=1M"],
        "dd: write as much": [
            "dd",
            "if=/dev/zero",
            f"of={target}",
            "bs=1M",
            f"count={weights >> 20}",
            "conv=fsync",
        ],
        SHA256SUM: ["sha256sum", str(source)],
        "hashlib.sha256": [sys.executable, "-c", HASH, str(source)],
        "import torch": [sys.executable, "-c", "import torch"],
        "cnctl info": [*cnctl, "info", str(source)],
        "cnctl info --hash": [*cnctl, "info", "--hash", str(source)],
        "cnctl convert": convert,
        "cnctl convert, half": [*convert, "--dtype", "float16"],
        "torch.load, save_file": [sys.executable, "-c", BY_HAND, str(source), str(target)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="where to make the files")
    parser.add_argument("--container", choices=("safetensors", "pth"), default="safetensors")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="no weights but those of control")
    parser.add_argument("--reduced", action="store_true", help="0.37 GB of control weights alone")
    arguments = parser.parse_args()
    weights = total_bytes(control(REDUCED if arguments.reduced else SD15))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        source = make(
            Path(name), arguments.container, alone=arguments.alone, reduced=arguments.reduced
        )
        size = source.stat().st_size
        print(f"{source.name}: {size / 1e9:.2f} GB, of it control {weights / 1e9:.2f} GB")
        found: dict[str, list[Cost]] = {}
        for _ in range(arguments.rounds):
            target = Path(name) / "out.safetensors"
            for label, command in commands(source, target, weights=weights).items():
                forget(source)
                found.setdefault(label, []).append(measure(command))
    for label, costs in found.items():
        best, memory = min(costs, key=lambda cost: cost.seconds), max(c.memory for c in costs)
        rounds = zip(costs, found[SHA256SUM], strict=True)
        ratios = [one.seconds / hashed.seconds for one, hashed in rounds]
        print(
            f"{label:22} {best.seconds:5.1f} s ({best.core_seconds:4.1f} s CPU)  "
            f"{median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f}) x sha256sum  "
            f"{memory / 1e9:5.2f} GB  {memory / weights:5.2f} x the control weights"
        )


if __name__ == "__main__":
    main()
