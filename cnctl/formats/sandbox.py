"""Run torch's own reader on a stranger's file in a child process with limits."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cnctl.errors import CnctlError, OutputError
from cnctl.formats.pickles import INERT
from cnctl.formats.torchfile import WRAPPERS, ZIP_MAGIC

CHILD = Path(__file__).with_name("torch_child.py")
SPARE_BYTES = 2 << 30
LEAST_SECONDS: float = 60
BYTES_PER_SECOND = 10_000_000
"""Slower than any disk in use; decides how long the child may run."""


def extract_tensors(source: Path, target: Path, *, names: Iterable[str]) -> None:
    """Write the named tensors of a torch file to `target` as safetensors.

    Call only on files that `list_torch_file` has passed. CnctlError says why it failed.
    """
    source = source.resolve()
    size = source.stat().st_size
    seconds = LEAST_SECONDS + size / BYTES_PER_SECOND
    with source.open("rb") as file:
        mapped = file.read(4) == ZIP_MAGIC
    request = {
        "source": str(source),
        "target": str(target),
        "mapped": mapped,
        "names": list(names),
        "inert": sorted(INERT),
        "wrappers": list(WRAPPERS),
        "bytes": 3 * size + SPARE_BYTES,
        "seconds": math.ceil(seconds),
    }
    with tempfile.TemporaryDirectory() as empty:
        _check(source, _run(json.dumps(request), empty, 4 * seconds, source))


def _run(
    request: str, folder: str, seconds: float, source: Path
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [sys.executable, "-P", "-B", str(CHILD)],
            input=request,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=folder,
            env=_environment(),
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CnctlError(
            f"{source} was refused: torch needed more than {seconds:.0f} s to read it",
            hint="ask for a safetensors file",
        ) from error


def _environment() -> dict[str, str]:
    """Where Python finds torch, and nothing of the user's: no tokens, no TORCH_ switches."""
    kept = {
        name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ
    }
    path = os.pathsep.join(entry for entry in sys.path if os.path.isabs(entry))
    return kept | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


def _check(source: Path, child: subprocess.CompletedProcess[str]) -> None:
    if child.returncode == 0:
        return
    lines = child.stderr.strip().splitlines()
    why = lines[-1] if lines else f"the reader ended with code {child.returncode}"
    if "No space left" in why:
        raise OutputError(
            f"no space for a copy of {source} in {tempfile.gettempdir()}",
            hint="free some, or point TMPDIR to another folder",
        )
    if child.returncode < 0:
        why = f"it crashed torch's reader or broke its limits (signal {-child.returncode})"
    raise CnctlError(f"{source} was refused: {why}", hint="ask for a safetensors file")
