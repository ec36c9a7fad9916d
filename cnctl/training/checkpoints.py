"""Checkpoints to resume from: written atomically, checked by hash, without pickle.

A checkpoint is a folder step-00000100 with safetensors files, state.json and, written last,
MANIFEST.json with the size and sha256 of each file. It is made under another name and renamed,
so a kill at any moment leaves the older ones as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cnctl.errors import CnctlError, writing
from cnctl.system.atomic import atomic_path, remove_folder
from cnctl.system.locks import lock_file
from cnctl.training.run_folder import LOCK

FORMAT = 1
MANIFEST = "MANIFEST.json"
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are what its manifest says."""

    path: Path
    step: int
    state: dict[str, Any]

    def tensors(self, group: str) -> dict[str, Tensor]:
        """The tensors that were saved under this name, on the CPU."""
        return load_file(self.path / f"{group}.safetensors")


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Commit a checkpoint of this step, then remove all but the newest `keep`.

    tensors: by group, each of which becomes a file. state: what JSON can hold.
    Raises OutputError where it cannot be written; the older checkpoints are then untouched.
    """
    target = _path(folder, step)
    hint = "free some space, then continue with --resume"
    # A damaged checkpoint of the same step, which was skipped, may be replaced.
    with writing(target, hint=hint), atomic_path(target, overwrite=True) as new:
        new.mkdir()
        _write_files(new, step, tensors, state)
    for old in _steps(folder):
        if old not in _newest(folder, step, keep):
            remove_folder(_path(folder, old))
    return target


def newest_checkpoint(
    folder: Path, *, note: Callable[[str], None] = lambda text: None
) -> Checkpoint | None:
    """The newest undamaged checkpoint, or None where there is none.

    `note` is called with a line about each damaged one that is skipped. Raises CnctlError when all
    are damaged.
    """
    steps = _steps(folder)
    for step in sorted(steps, reverse=True):
        path = _path(folder, step)
        damage = _find_damage(path, step)
        if damage is None:
            return Checkpoint(path, step, json.loads((path / STATE).read_text()))
        note(f"{path} is damaged ({damage}); the previous one is used")
    if steps:
        raise CnctlError(
            f"every checkpoint in {folder} is damaged", hint="start again with another -o"
        )
    return None


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of an output folder, which is made here if need be.

    The lock goes with this process, however it ends. A folder left with nothing in it is removed.
    Raises OutputError where another run has it or it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock_file(descriptor, folder)
        try:
            yield
        finally:
            if os.listdir(folder) == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()
    finally:
        os.close(descriptor)


def _write_files(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> None:
    for group, named in tensors.items():
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
        try:
            save_file(contiguous, folder / f"{group}.safetensors")
        except SafetensorError as error:
            raise _system_error(error) from error
    (folder / STATE).write_text(json.dumps(state, indent=1))
    files = {path.name: _measure(path) for path in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "step": step, "torch": torch.__version__, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _system_error(error: SafetensorError) -> OSError:
    """What the system said of a full disk, for instance; safetensors writes it into its message."""
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError(str(error))


def _measure(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_damage(path: Path, step: int) -> str | None:
    """The first damage found in a checkpoint, or None."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT or manifest["step"] != step:
            return f"{MANIFEST} is of another format or step"
        for name, expected in manifest["files"].items():
            if (path / name).stat().st_size != expected["bytes"]:
                return f"{name} has another size"
            if _sha256(path / name) != expected["sha256"]:
                return f"{name} has changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        name = getattr(error, "filename", None)
        return f"{Path(name).name} cannot be read" if name else f"{MANIFEST} makes no sense"
    return None


def _steps(folder: Path) -> list[int]:
    names = os.listdir(folder) if folder.is_dir() else []
    return [int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d{8,})", name))]


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _newest(folder: Path, step: int, keep: int) -> list[int]:
    """The steps to keep; later checkpoints than the current step were damaged."""
    return sorted(old for old in _steps(folder) if old <= step)[-keep:]
