"""Bases of Z-Image that are published on the hub, and the ControlNets for them by condition.

Standard library only, as `cnctl conditions` and `cnctl models` list them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cnctl.weights import PublishedBase, Weights

LICENCE = "Apache-2.0"
PLAIN, TURBO = "Z-Image", "Z-Image-Turbo"
BASES: Mapping[str, PublishedBase] = {
    "z-image-turbo": PublishedBase(
        family=TURBO, ids=("Tongyi-MAI/Z-Image-Turbo",), licence=LICENCE
    ),
    "z-image": PublishedBase(family=PLAIN, ids=("Tongyi-MAI/Z-Image",), licence=LICENCE),
}


def _union(name: str, family: str, file: str) -> Weights:
    """A union, which does not read the kind of its hints."""
    source = f"alibaba-pai/{name}"
    return Weights(source=source, family=family, licence=LICENCE, file=f"{file}.safetensors")


FIRST = _union("Z-Image-Turbo-Fun-Controlnet-Union", TURBO, "Z-Image-Turbo-Fun-Controlnet-Union")
TURBO_UNION = _union(
    "Z-Image-Turbo-Fun-Controlnet-Union-2.1",
    TURBO,
    "Z-Image-Turbo-Fun-Controlnet-Union-2.1-2602-8steps",
)
PLAIN_UNION = _union("Z-Image-Fun-Controlnet-Union-2.1", PLAIN, "Z-Image-Fun-Controlnet-Union-2.1")
CONDITIONS = (
    *("canny", "depth", "depth-anything", "hed", "hough"),
    *("openpifpaf", "openpose", "pose", "softedge-pidi"),
)
"""Canny, HED, depth, poses and MLSD on the model cards, and the detectors here that draw such."""
CONTROLNETS: Mapping[str, Mapping[str, tuple[Weights, ...]]] = {
    TURBO: {
        **dict.fromkeys(CONDITIONS, (TURBO_UNION, FIRST)),
        "scribble": (TURBO_UNION,),
    },
    PLAIN: dict.fromkeys(CONDITIONS, (PLAIN_UNION,)),
}
"""Family -> condition -> published ControlNets, best first.

Without version 2.0, whose files differ from those of 2.1 in the values of their tensors alone.
"""


def known_quirk(path: Path) -> str:
    """One sentence on the strength of a published union, or ""."""
    unions = (FIRST, TURBO_UNION, PLAIN_UNION)
    if path.name not in {one.file for one in unions}:
        return ""
    return "its model card recommends --control-scale 0.65 to 0.80"
