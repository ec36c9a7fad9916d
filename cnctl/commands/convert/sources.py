"""Where what `cnctl convert` reads is. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from cnctl.commands.shared.cached import cached_weights
from cnctl.errors import MissingError
from cnctl.models.locate import locate_base


def find_source(source: str | Path) -> Path:
    """The file or folder of a ControlNet, or where the hub's cache holds it; else MissingError."""
    path = Path(source)
    if path.exists():
        return path
    if cached := cached_weights(str(source)):
        return cached
    if str(source).count("/") != 1:
        raise MissingError(f"{source} does not exist", hint="give a file, or a diffusers folder")
    raise MissingError(
        f"{source} is not a file, not a folder, and not in the Hugging Face cache",
        hint="check the path, or fetch it with cnctl models pull",
    )


def find_base(source: str | Path) -> Path:
    """The file or folder of a base; MissingError says how to get it."""
    return Path(source) if Path(source).exists() else locate_base(source).path
