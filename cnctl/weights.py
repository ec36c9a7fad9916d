"""Where published bases and ControlNets are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

UNCHECKED = "not checked: see its page on the hub"
"""A licence that nobody has read."""
EMBEDDED_BASES = {"tiny": "weights", "tiny-flow": "flow"}
"""Bases that come with cnctl, each with its own ControlNets, and their folders in cnctl/tiny."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A trained ControlNet for this condition: where it lives and what it fits."""

    source: str
    """Hub id; "tiny/NAME" is a ControlNet that comes with an embedded base."""
    family: str
    """Family of the base it was trained on, e.g. "SD 1.x"."""
    licence: str
    revision: str = ""
    file: str = ""
    """The file of the repository, where it has no config.json beside it; "" for a folder."""
    control_type: int | None = None
    """Where the ControlNet is a union: which of its kinds of hint this condition's are."""

    @property
    def embedded(self) -> bool:
        """Whether it comes with an embedded base."""
        return self.source.partition("/")[0] in EMBEDDED_BASES


def control_types(controlnets: Mapping[str, Iterable[Weights]]) -> dict[str, int]:
    """Condition -> its kind of hint, of the unions in a table of a family's ControlNets."""
    return {
        condition: known.control_type
        for condition, published in controlnets.items()
        for known in published
        if known.control_type is not None
    }


@dataclass(frozen=True, kw_only=True)
class PublishedBase:
    """A base on the hub."""

    family: str
    ids: tuple[str, ...]
    """Hub ids that it may be cached under; the first is fetched."""
    licence: str
