"""Where what can be made again is kept for later."""

from __future__ import annotations

import os
from pathlib import Path

from cnctl.errors import writing


def cache_folder(name: str) -> Path:
    """The user's folder for things of this kind, made if need be; OutputError where it cannot be.

    It lies in $XDG_CACHE_HOME/cnctl, by default ~/.cache/cnctl.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "cnctl" / name
    with writing(folder, hint="name another in XDG_CACHE_HOME"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
