"""Write weights so that the published path appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cnctl.errors import OutputError, OutputExists, writing
from cnctl.system.atomic import atomic_path
from cnctl.system.rename import NameTaken
from cnctl.tensorfiles.base_update_file import BASE_UPDATE
from cnctl.tensorfiles.lazy import Tensors
from cnctl.tensorfiles.listing import CONFIG, DESCRIPTION, DIFFUSERS_NAMES, WEIGHTS
from cnctl.tensorfiles.paths import check_path
from cnctl.tensorfiles.stream import Advance, Metadata, write_tensors

OURS = frozenset({BASE_UPDATE, CONFIG, DESCRIPTION, "README.md", *DIFFUSERS_NAMES})
"""A folder with nothing else in it may be replaced."""
HINT = "free some space, or choose another folder"
FORMAT = {"format": "pt"}
"""The metadata that transformers expects in every safetensors file."""


def write_folder(
    folder: Path,
    tensors: Tensors,
    *,
    config: Mapping[str, Any],
    description: Callable[[], Mapping[str, Any]],
    base_update: Tensors | None = None,
    overwrite: bool = False,
    advance: Advance = lambda done: None,
) -> None:
    """Write a diffusers folder: config.json, the weights, and cnctl.json unless that is empty.

    base_update: changes of the base that was trained with these weights.
    description is asked for when the weights are written.
    """
    with _published(folder, overwrite=overwrite) as stage:
        stage.mkdir()
        _write_json(stage / CONFIG, config)
        write_tensors(stage / WEIGHTS, tensors, metadata=lambda _: FORMAT, advance=advance)
        if base_update:
            write_tensors(stage / BASE_UPDATE, base_update, metadata=lambda _: FORMAT)
        if known := description():
            _write_json(stage / DESCRIPTION, known)


def write_file(
    path: Path,
    tensors: Tensors,
    *,
    metadata: Metadata,
    overwrite: bool = False,
    advance: Advance = lambda done: None,
) -> None:
    """Write one safetensors file."""
    with _published(path, overwrite=overwrite) as stage:
        write_tensors(
            stage, tensors, metadata=lambda done: {**FORMAT, **metadata(done)}, advance=advance
        )


def names_a_file(target: Path) -> bool:
    """Whether weights go into one file: it ends in .safetensors, and is not a folder."""
    return target.suffix == ".safetensors" and not target.is_dir()


def check_target(path: Path, *, overwrite: bool) -> None:
    """OutputError when the path exists and must not be replaced; an empty folder may be."""
    check_path(path, error=OutputError)
    if not os.path.lexists(path) or _is_empty(path):
        return
    if not overwrite:
        raise _exists(path)
    if path.is_dir() and not _replaceable(path):
        raise OutputError(f"{path} holds more than a ControlNet", hint="choose another folder")


@contextmanager
def _published(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path to write at, which becomes `path`; OutputError where that must not be."""
    check_target(path, overwrite=overwrite)
    with writing(path, hint=HINT):
        try:
            with atomic_path(path, overwrite=overwrite) as stage:
                yield stage
                check_target(path, overwrite=overwrite)  # again: it may have changed meanwhile
                if _is_empty(path):
                    path.rmdir()
        except NameTaken:
            raise _exists(path) from None


def _exists(path: Path) -> OutputExists:
    return OutputExists(f"{path} exists", hint="choose another name, or give --overwrite")


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _replaceable(folder: Path) -> bool:
    return not folder.is_symlink() and {entry.name for entry in folder.iterdir()} <= OURS


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    # The same layout as diffusers', so that a round trip gives back the same bytes.
    text = json.dumps(dict(values), indent=2, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
