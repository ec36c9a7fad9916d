"""Where the tensors of a ControlNet lie, and what was written down beside or in their file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError, MissingError
from cnctl.tensorfiles.listing import CONFIG, DESCRIPTION, find_weights, no_weights
from cnctl.tensorfiles.parts import is_index
from cnctl.tensorfiles.paths import check_kind

METADATA_KEY = "cnctl"
LOW_RANK = "controlnet.safetensors"
"""What a run of `cnctl train --lora` calls its result."""
PART = re.compile(r"-\d{5}-of-\d{5}$")
"""How the name of a part of weights ends, before its suffix."""


def locate_weights(source: Path) -> tuple[Path, Path | None]:
    """The file of tensors or the index of its parts, and the folder where it has a config."""
    if source.is_file():
        return source, _folder_of_parts(source)
    if not source.is_dir():
        check_kind(source)
        raise MissingError(f"{source} does not exist", hint="give a file, or a diffusers folder")
    if found := find_low_rank(source):
        return found, None
    if (source / "controlnet" / CONFIG).is_file():  # a run of `cnctl train`, or a whole pipeline
        source = source / "controlnet"
    found = find_weights(source)
    if found is None:
        raise no_weights(source, "a ControlNet")
    return found, source if (source / CONFIG).is_file() else None


def find_low_rank(run: Path) -> Path | None:
    """The Control-LoRA in the folder of a run of `cnctl train --lora`; None for another folder."""
    path = run / LOW_RANK
    return path if path.is_file() else None


def _folder_of_parts(source: Path) -> Path | None:
    """The folder that an index belongs to, None for a file that holds all its weights."""
    if PART.search(source.stem):
        raise CnctlError(
            f"{source} is one of several parts of weights", hint=f"give the folder {source.parent}"
        )
    folder = source.parent
    return folder if is_index(source) and (folder / CONFIG).is_file() else None


def read_metadata(metadata: dict[str, str]) -> dict[str, Any]:
    """What `convert` wrote into the file's metadata; {} for anything else."""
    try:
        written = json.loads(metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return written if isinstance(written, dict) else {}


def find_description(folder: Path | None, written: dict[str, Any]) -> dict[str, Any]:
    """What was written down about weights: beside them in their folder, or in their file."""
    if folder is not None:
        path = folder / DESCRIPTION
        return read_config(path) if path.is_file() else {}
    described = written.get("description", {})
    return described if isinstance(described, dict) else {}


def read_config(path: Path) -> dict[str, Any]:
    """A config.json as it stands."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CnctlError(f"{path} is not a config.json: {error}", hint="give another") from error
    if not isinstance(config, dict):
        raise CnctlError(
            f"{path} is not a config.json: it is not a JSON object", hint="give another"
        )
    return config
