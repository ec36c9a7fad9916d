"""Bases of Z-Image that are published on the hub, and the ControlNets for them by condition.

Standard library only, as `cnctl conditions` and `cnctl models` list them.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnctl.weights import PublishedBase, Weights

LICENCE = "Apache-2.0"
PLAIN, TURBO = "Z-Image", "Z-Image-Turbo"
BASES: Mapping[str, PublishedBase] = {
    "z-image-turbo": PublishedBase(
        family=TURBO, ids=("Tongyi-MAI/Z-Image-Turbo",), licence=LICENCE
    ),
    "z-image": PublishedBase(family=PLAIN, ids=("Tongyi-MAI/Z-Image",), licence=LICENCE),
}


def _fun(name: str, family: str) -> Weights:
    return Weights(source=f"alibaba-pai/{name}", family=family, licence=LICENCE)


CONTROLNETS: Mapping[str, Mapping[str, tuple[Weights, ...]]] = {PLAIN: {}, TURBO: {}}
"""Family -> condition -> published ControlNets, best first."""
