"""ControlNets that are installed: in the hub's cache, or beside a base. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from cnctl.commands.shared.known_controls import find_control
from cnctl.models.locate import EMBEDDED
from cnctl.plugin import Weights


def find_known(known: Weights, base: Path) -> Path | None:
    """The path of a condition's ControlNet: the base's own, or one in the hub's cache."""
    own = base / "controls" / known.source.removeprefix("tiny/")
    return own if own.is_dir() else find_cached(known.source, known.file)


def cached_weights(hub_id: str) -> Path | None:
    """The folder or file of this ControlNet in the hub's cache, or None.

    "tiny/NAME" is one that comes with cnctl, as `cnctl models` lists it.
    """
    if hub_id.startswith("tiny/") and (own := _embedded(hub_id)).is_dir():
        return own
    if hub_id.count("/") != 1:
        return None
    known = find_control(hub_id)
    return find_cached(hub_id, known.file if known else "")


def _embedded(source: str) -> Path:
    return EMBEDDED / "controls" / source.removeprefix("tiny/")


def find_cached(hub_id: str, file: str) -> Path | None:
    """file: as of `Weights`."""
    if hub_id.count("/") != 1:
        return None
    try:
        found = try_to_load_from_cache(hub_id, file or "config.json")
    except HFValidationError:
        return None
    if not isinstance(found, str):
        return None
    return Path(found) if file else Path(found).parent
