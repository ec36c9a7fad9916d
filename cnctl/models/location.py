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
    """Where a part of a base lies: in the folder of its name, else in the one that its defaults
    name under "parts", which it shares with another base.

    Raises MissingError where that one is not there.
    """
    own, shared = base / part, shared_folders(base, defaults).get(part)
    if shared is None or own.exists():
        return own
    if not shared.is_dir():
        raise MissingError(
            f"{base} shares its {part} with {shared}, which is not there",
            hint="copy both folders, as they lie in the package",
        )
    return shared


def shared_folders(base: Path, defaults: Mapping[str, Any]) -> dict[str, Path]:
    """The folders that a base shares with others, by the names of its parts."""
    parts = defaults.get("parts", {})
    if not isinstance(parts, dict) or not all(isinstance(one, str) for one in parts.values()):
        raise CnctlError(
            f'{base}/model_index.json: "parts" is not an object of folders by the names of parts',
            hint="fix it, or fetch the base again",
        )
    return {part: base / folder for part, folder in parts.items()}
