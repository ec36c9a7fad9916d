"""Generation and training at true size beside diffusers', on one GPU, in ten minutes; no network.

    python tests/benchmarks/gpu.py [--device cuda] [--minutes 10] [--rows rows.jsonl]
    python tests/benchmarks/gpu.py --reduced        # narrow networks on the CPU: that all rows run

Weights are random, in bfloat16 (--reduced: float32, and at most 2 images). Each row is appended to
--rows as soon as it is measured, and a row that is there is not measured again, so that a run that
was cut is started again and goes on. The most useful rows come first; none begins after --minutes.
A row that fails is printed, and tried again by the next run.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import traceback
from pathlib import Path
from statistics import median
from typing import Any

import diffusers
import torch
from image_rows import IMAGE_ROWS, ImageRow
from training_rows import TRAINING_ROWS, TrainingRow

Row = ImageRow | TrainingRow
ROWS: tuple[Row, ...] = (*IMAGE_ROWS[:2], *TRAINING_ROWS, *IMAGE_ROWS[2:])


def main() -> None:
    """Measure the rows that are missing, then print all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rows", type=Path, default=None, help="JSON lines to add to")
    parser.add_argument("--reduced", action="store_true")
    asked = parser.parse_args()
    device = torch.device("cpu" if asked.reduced else asked.device)
    path = asked.rows or Path(f"gpu-rows{'-reduced' if asked.reduced else ''}.jsonl")
    machine = describe(device, reduced=asked.reduced)
    print(json.dumps(machine))
    done = [row for row in read_rows(path) if row["machine"] == machine]
    begin, failed = time.perf_counter(), False
    for row in ROWS:
        if row.name in {one["row"] for one in done}:
            continue
        if time.perf_counter() - begin > 60 * asked.minutes:
            print(f"not begun, the time is over: {row.name}")
            continue
        started = time.perf_counter()
        found = attempt(row, device, reduced=asked.reduced)
        failed |= found is None
        if found is None:
            continue
        took = round(time.perf_counter() - started, 1)
        done.append({"row": row.name, "machine": machine, "took_s": took, **found})
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(describe_row(done[-1]), flush=True)
    print(f"\nall rows of this machine in {path}:")
    print("\n".join(map(describe_row, done)))
    sys.exit(failed)


def attempt(row: Row, device: torch.device, *, reduced: bool) -> dict[str, Any] | None:
    """A row's figures; None where it fails, which is printed."""
    try:
        return row.measure(device=device, dtype=_dtype(reduced), reduced=reduced)
    except Exception:
        print(f"FAILED {row.name}\n{traceback.format_exc(limit=-4)}", flush=True)
        return None
    finally:
        gc.collect()
        torch._dynamo.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def describe(device: torch.device, *, reduced: bool) -> dict[str, Any]:
    """What the figures hold for."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    return {"device": name, "reduced": reduced, "dtype": str(_dtype(reduced)), **versions}


def _dtype(reduced: bool) -> torch.dtype:
    """Narrow networks run in float32, for few CPUs compute in bfloat16 at all."""
    return torch.float32 if reduced else torch.bfloat16


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What was measured before; a last line that was cut is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: a line that was cut is not read")
    return rows


def describe_row(row: dict[str, Any]) -> str:
    """One line: seconds (median, least to most), ratio, and what else a row has."""
    parts = []
    for side, seconds in row["seconds"].items():
        spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
        parts.append(f"{side} {median(seconds):.3f} s ({spread})")
    parts.append(f"ratio {row['ratio']:.2f}")
    parts += [
        f"{name} {row[name]:.2f}"
        for name in ("images_a_second", "samples_a_second", "tflop", "share_of_floor")
        if name in row
    ]
    for name in ("working_gib", "peak_gib"):
        if row.get(name):
            parts.append(name + " " + ", ".join(f"{k} {v:.2f}" for k, v in row[name].items()))
    return f"{row['row']:66} {'  '.join(parts)}"


if __name__ == "__main__":
    main()
