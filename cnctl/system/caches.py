"""Folders for files that can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from cnctl.errors import writing


def cache_folder(name: str) -> Path:
    """Return the user's cache folder of this name, which is created if it does not exist.

    It is in $XDG_CACHE_HOME/cnctl, by default ~/.cache/cnctl. Raises OutputError where it cannot
    be created.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "cnctl" / name
    with writing(folder, hint="name another in XDG_CACHE_HOME"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
