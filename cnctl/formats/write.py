"""Write weights so that the published path appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from cnctl.errors import OutputError
from cnctl.formats.source import CONFIG, DESCRIPTION, WEIGHTS, WEIGHTS_NAMES

OURS = frozenset({CONFIG, DESCRIPTION, "README.md", *WEIGHTS_NAMES})
"""A folder with nothing else in it may be replaced."""


def write_folder(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    config: Mapping[str, Any],
    description: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write a diffusers folder: config.json, the weights, and cnctl.json unless that is empty."""
    check_target(folder, overwrite=overwrite)
    with _staged(folder, overwrite) as stage:
        stage.mkdir()
        _write_json(stage / CONFIG, config)
        _write_tensors(stage / WEIGHTS, tensors, {"format": "pt"})
        if description:
            _write_json(stage / DESCRIPTION, description)
        _sync(stage)


def write_file(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    metadata: Mapping[str, str],
    overwrite: bool = False,
) -> None:
    """Write one safetensors file."""
    check_target(path, overwrite=overwrite)
    with _staged(path, overwrite) as stage:
        _write_tensors(stage, tensors, {"format": "pt"} | dict(metadata))


def check_target(path: Path, *, overwrite: bool) -> None:
    """OutputError when something stands there that must not be replaced."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise OutputError(f"{path} exists", hint="choose another name, or give --overwrite")
    if path.is_dir() and not _replaceable(path):
        raise OutputError(f"{path} holds more than a ControlNet", hint="choose another folder")


def _replaceable(folder: Path) -> bool:
    return not folder.is_symlink() and {entry.name for entry in folder.iterdir()} <= OURS


@contextmanager
def _staged(target: Path, overwrite: bool) -> Iterator[Path]:
    """A path beside the target, which takes the target's place when all has gone well."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield room / target.name
            _publish(room / target.name, target, room)
        finally:
            shutil.rmtree(room, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"could not write {target}: {error.strerror or error}",
            hint="free some space, or choose another folder",
        ) from error


def _publish(stage: Path, target: Path, room: Path) -> None:
    # A file is replaced in one step; a folder has to make room first.
    earlier = room / "earlier" if target.is_dir() or (stage.is_dir() and target.exists()) else None
    if earlier:
        target.rename(earlier)
    try:
        os.replace(stage, target)
    except OSError:
        if earlier:
            earlier.rename(target)
        raise
    _sync(target.parent)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    # The same layout as diffusers', so that a round trip gives back the same bytes.
    text = json.dumps(dict(values), indent=2, sort_keys=True) + "\n"
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    path.touch()
    mode = path.stat().st_mode  # as the umask says; the library would close the file to others
    try:
        save_file(whole, path, metadata=metadata)
        path.chmod(mode)
    except SafetensorError as error:  # this is how it reports a full disk
        raise OSError(str(error)) from error
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
