"""A place where a base is: in a folder or the hub's cache, and the JSON files there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from cnctl.errors import CnctlError, MissingError


@dataclass(frozen=True)
class Location:
    """Where a base is, and in one sentence why there."""

    path: Path
    name: str
    reason: str


def cached_folder(hub_id: str) -> Path | None:
    """The folder of diffusers that the hub's cache has under this id, or None."""
    try:
        index = try_to_load_from_cache(hub_id, "model_index.json")
    except HFValidationError:
        return None
    return Path(index).parent if isinstance(index, str) else None


def read_defaults(path: Path) -> dict[str, Any]:
    """What a base folder says under "cnctl" in its model_index.json, or {}."""
    index = path / "model_index.json"
    return dict(read_json(index).get("cnctl", {})) if index.is_file() else {}


def read_json(path: Path) -> dict[str, Any]:
    """A file of a base. Raises MissingError where it is not there, CnctlError where no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingError(f"{path} is missing", hint="fetch the whole base again") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CnctlError(f"{path} is not valid JSON", hint="fetch the base again") from error
    if not isinstance(content, dict):
        raise CnctlError(f"{path} is not a JSON object", hint="fetch the base again")
    return content


def part_folder(base: Path, defaults: Mapping[str, Any], part: str) -> Path:
    """Where a part of a base lies: in the folder of its name, or in one that it shares with another
    base, as its defaults say.
    """
    own, shared = base / part, defaults.get("parts", {})
    return base / shared[part] if part in shared and not own.exists() else own
