"""The ControlNets that are known for the installed conditions, and their short names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from cnctl.models.published import published_controlnets, short_name
from cnctl.plugin import Condition, Weights
from cnctl.registry import condition_names, list_conditions
from cnctl.tensorfiles.listing import WEIGHTS_NAMES

NEAR = 3


def known_weights(condition: Condition) -> tuple[Weights, ...]:
    """ControlNets for a condition: its plugin's own, then those published for the families."""
    return (*condition.weights, *published_controlnets(condition.name))


def find_control(name: str) -> Weights | None:
    """The one that this short name or hub id means.

    Plugins are asked where none is published as that.
    """
    if "/" in name:
        known = find_control(short_name(name))
        return known if known and known.source == name else None
    return _published().get(name) or _of_plugins().get(name)


def find_licence(path: Path) -> str:
    """The licence of the published ControlNet that this path names; "" for another."""
    parts = {*path.absolute().parts, path.stem}
    for known in _published().values():
        folder = f"models--{known.source.replace('/', '--')}"  # in the hub's cache
        if parts & {folder, known.source.partition("/")[2]} or _is_file_of(known, path):
            return known.licence
    return ""


def _is_file_of(known: Weights, path: Path) -> bool:
    return path.name == known.file and known.file not in WEIGHTS_NAMES


def published_names() -> list[str]:
    """The short names of all that are published for the installed conditions."""
    return [*_published()]


def near_names(name: str) -> list[str]:
    """Short names that are like this one, or hold it."""
    known = _published() | _of_plugins()
    holding = [other for other in known if name and name in other]
    close = difflib.get_close_matches(name, known, n=NEAR)
    return [*dict.fromkeys([*close, *holding])][:NEAR]


def _published() -> dict[str, Weights]:
    return _by_name(one for name in condition_names() for one in published_controlnets(name))


def _of_plugins() -> dict[str, Weights]:
    conditions = [entry.condition for entry in list_conditions() if entry.condition]
    return _by_name(one for condition in conditions for one in condition.weights)


def _by_name(known: Iterable[Weights]) -> dict[str, Weights]:
    found: dict[str, Weights] = {}
    for weights in known:
        if not weights.embedded:  # those of the embedded base have no id
            found.setdefault(short_name(weights.source), weights)
    return found
