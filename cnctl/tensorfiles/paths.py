"""Paths that the safetensors library can open."""

from __future__ import annotations

import os
from pathlib import Path

from cnctl.errors import CnctlError, shown


def check_path(path: Path, *, error: type[CnctlError] = CnctlError) -> None:
    """Raise `error` where the library cannot open a file at this path: it must be UTF-8."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError as cause:
        raise error(
            f"{shown(path)} is not a UTF-8 path, and the safetensors library opens no other",
            hint="rename it, or choose another one",
        ) from cause


def check_kind(path: Path) -> None:
    """Raise CnctlError for what is neither a file nor a folder, such as a pipe or a device."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise CnctlError(f"{shown(path)} is not a file or a folder", hint="save it as a file first")
