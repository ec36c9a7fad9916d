"""The ControlNets that are known for the installed conditions, and their short names."""

from __future__ import annotations

import difflib

from cnctl.models.published import published_controlnets, short_name
from cnctl.plugin import Condition, Weights
from cnctl.registry import list_conditions

NEAR = 3


def known_weights(condition: Condition) -> tuple[Weights, ...]:
    """ControlNets for a condition: its plugin's own, then those published for the families."""
    return (*condition.weights, *published_controlnets(condition.name))


def find_control(name: str) -> Weights | None:
    """The one that this short name means."""
    return _by_name().get(name)


def near_names(name: str) -> list[str]:
    """Short names that are like this one, or hold it."""
    known = _by_name()
    holding = [other for other in known if name and name in other]
    close = difflib.get_close_matches(name, known, n=NEAR)
    return [*dict.fromkeys([*close, *holding])][:NEAR]


def _by_name() -> dict[str, Weights]:
    conditions = [entry.condition for entry in list_conditions() if entry.condition]
    found: dict[str, Weights] = {}
    for weights in (one for condition in conditions for one in known_weights(condition)):
        if not weights.source.startswith("tiny/"):  # what the embedded base brings has no id
            found.setdefault(short_name(weights.source), weights)
    return found
