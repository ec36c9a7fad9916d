"""Whether a ControlNet averages its residuals over the picture, as that for shuffle does.

Its config says so; where a file has none, a published name or the condition does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cnctl.models.unet.checkpoint import published

FIELD = "global_pool_conditions"


class Averaging(NamedTuple):
    """averaged: whether it does. note: one sentence about it, or "". assumed: no config says it."""

    averaged: bool
    note: str = ""
    assumed: bool = False


def find_averaging(config: Mapping[str, Any], path: Path, condition: str) -> Averaging:
    """config: as far as somebody has said it, {} where nobody has."""
    name = published.condition_of(path) in published.AVERAGED
    why = f"{path.stem} is the name of such a ControlNet" if name else ""
    if not why and condition in published.AVERAGED:
        why = f"ControlNets for {condition} do so"
    if FIELD not in config:
        text = f"its residuals are averaged over the picture, because {why}; no config says it"
        return Averaging(bool(why), text if why else "", bool(why))
    if config[FIELD]:
        return Averaging(True, "its residuals are averaged over the picture")
    text = f"its config says that residuals are not averaged over the picture, but {why}"
    return Averaging(False, text if why else "")
