"""Whether a ControlNet averages its residuals over the picture, as that for shuffle does.

Its config says so; where a file has none, a published name or the condition does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cnctl.models.unet.checkpoint import published
from cnctl.models.unet.published import CONTROLNETS

FIELD = "global_pool_conditions"


UNKNOWN = (
    "nothing says whether its residuals are averaged over the picture, and it is assumed that they "
    "are not; a config.json says it, see --config"
)


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
    if FIELD not in config and not why and condition and not _is_known(path, condition):
        return Averaging(False, UNKNOWN, True)
    if FIELD not in config:
        text = f"its residuals are averaged over the picture, because {why}; no config says it"
        return Averaging(bool(why), text if why else "", bool(why))
    if config[FIELD]:
        return Averaging(True, "its residuals are averaged over the picture")
    text = f"its config says that residuals are not averaged over the picture, but {why}"
    return Averaging(False, text if why else "")


def _is_known(path: Path, condition: str) -> bool:
    """Whether there is a published ControlNet of this name, or one for this condition."""
    of_condition = any(condition in of_family for of_family in CONTROLNETS.values())
    return of_condition or bool(published.condition_of(path))
