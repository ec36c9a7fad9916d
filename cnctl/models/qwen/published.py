"""Bases of Qwen-Image that are published on the hub, and the ControlNets for them by condition.

Standard library only, as `cnctl conditions` and `cnctl models` list them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cnctl.models.qwen.shape import NAME
from cnctl.weights import UNCHECKED, PublishedBase, Weights

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


def _blockwise(kind: str) -> Weights:
    """DiffSynth's, with a block after each of the base's."""
    source = f"DiffSynth-Studio/Qwen-Image-Blockwise-ControlNet-{kind.title()}"
    return Weights(source=source, family=NAME, licence=UNCHECKED, file="model.safetensors")


FILLING = Weights(
    source="InstantX/Qwen-Image-ControlNet-Inpainting", family=NAME, licence=UNCHECKED
)
KINDS = ("canny", "depth", "inpaint")
CANNY, DEPTH, INPAINT = map(_blockwise, KINDS)
CONTROLNETS: Mapping[str, Mapping[str, tuple[Weights, ...]]] = {
    NAME: {
        **dict.fromkeys(OF_UNION, (UNION,)),
        "canny": (UNION, CANNY),
        "depth": (UNION, DEPTH),
        "depth-anything": (UNION, DEPTH),
        "inpaint": (FILLING, INPAINT),
    }
}
"""Family -> condition -> published ControlNets, best first."""


def condition_of(path: Path) -> str:
    """The condition that the name of a blockwise one says; "" for other names."""
    for part in (path.stem, *(parent.name for parent in path.parents)):
        name = part.lower()  # DiffSynth's own, or that of the copies for ComfyUI
        if "qwen" in name and ("blockwise" in name or "diffsynth_controlnet" in name):
            return next((kind for kind in KINDS if kind in name), "")
    return ""
