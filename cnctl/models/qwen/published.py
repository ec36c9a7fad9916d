"""Bases of Qwen-Image that are published on the hub, and the ControlNets for them by condition.

Standard library only, as `cnctl conditions` and `cnctl models` list them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cnctl.models.qwen.shape import NAME
from cnctl.weights import PublishedBase, Weights

LICENCE = "Apache-2.0"
BASES: Mapping[str, PublishedBase] = {
    "qwen-image": PublishedBase(family=NAME, ids=("Qwen/Qwen-Image",), licence=LICENCE),
    "qwen-image-2512": PublishedBase(family=NAME, ids=("Qwen/Qwen-Image-2512",), licence=LICENCE),
}
UNION = Weights(source="InstantX/Qwen-Image-ControlNet-Union", family=NAME, licence=LICENCE)
"""Reads canny, soft edges, depth and poses; which of them is not an input."""
OF_UNION = (
    *("canny", "depth", "depth-anything", "hed", "openpifpaf", "openpose", "pose"),
    "softedge-pidi",
)
CONTROLNETS: Mapping[str, Mapping[str, tuple[Weights, ...]]] = {
    NAME: dict.fromkeys(OF_UNION, (UNION,))
}
"""Family -> condition -> published ControlNets, best first."""


def condition_of(path: Path) -> str:
    """No published one is for one condition: no name says one."""
    return ""
