"""Which base a command uses, named or not, before any of it is read. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnctl.models.locate import default_base, locate_base
from cnctl.models.location import Location, read_defaults
from cnctl.settings import common_settings


def choose_base(source: str | Path | None) -> Location:
    """Where the named base is, else the config file's, else the default one."""
    source = source or common_settings().base
    return default_base() if source is None else locate_base(source)


def read_base_defaults(source: str | Path | None) -> dict[str, Any]:
    """What the base that `choose_base` finds brings along; its weights are not read."""
    return read_defaults(choose_base(source).path)
