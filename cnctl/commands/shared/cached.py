"""ControlNets that are installed: in the hub's cache, or beside a base. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from cnctl.commands.shared.known_controls import find_control, near_names
from cnctl.errors import MissingError
from cnctl.models.locate import EMBEDDED
from cnctl.plugin import Weights
from cnctl.tensorfiles.listing import WEIGHTS


def find_known(known: Weights, base: Path) -> Path | None:
    """The path of a condition's ControlNet: the base's own, or one in the hub's cache."""
    if known.embedded:
        own = base / "controls" / known.source.partition("/")[2]
        return own if own.is_dir() else None
    return find_cached(known.source, known.file)


def find_installed(known: Weights) -> Path | None:
    """The path of a condition's ControlNet: an embedded base's, or one in the hub's cache."""
    return cached_weights(known.source) if known.embedded else find_cached(known.source, known.file)


def embedded_control(name: str) -> Path | None:
    """The folder of a ControlNet that comes with cnctl, such as "tiny/canny"; None for others."""
    base, _, control = name.partition("/")
    own = EMBEDDED[base] / "controls" / control if base in EMBEDDED and control else None
    return own if own and own.is_dir() else None


def cached_weights(hub_id: str) -> Path | None:
    """The folder or file of this ControlNet in the hub's cache, or None.

    "tiny/NAME" is one that comes with cnctl, as `cnctl models` lists it.
    """
    if own := embedded_control(hub_id):
        return own
    if hub_id.count("/") != 1:
        return None
    known = find_control(hub_id)
    return find_cached(hub_id, known.file if known else "")


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


def find_named(name: str) -> Path:
    """The weights of this path, hub id or short name; MissingError says how to get them."""
    if Path(name).exists():
        return Path(name)
    return cached_weights(name) or _find_by_short_name(name)


def _find_by_short_name(name: str) -> Path:
    if known := find_control(name):
        if cached := find_cached(known.source, known.file):
            return cached
        raise MissingError(
            f"{name} is not in the Hugging Face cache: it is {known.source} for {known.family}, "
            f"licence {known.licence}",
            hint=f"fetch it: cnctl models pull {name}, or {_how_to_get(known)}",
        )
    near = near_names(name)
    fetch = f"fetch it: cnctl models pull {name}" if "/" in name else "see cnctl models"
    raise MissingError(
        f"no ControlNet {name!r}: no folder, file, short name, or hub id in the Hugging Face cache",
        hint=f"did you mean {', '.join(near)}?" if near else f"check the name, or {fetch}",
    )


def _how_to_get(known: Weights) -> str:
    page = f"https://huggingface.co/{known.source}"
    if known.file:
        return f"{known.file} from {page}"
    return f"its config.json and {WEIGHTS} from {page} into a folder"
