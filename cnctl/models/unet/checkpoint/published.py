"""What the names of published ControlNets say that their files do not."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

_NAME = re.compile(r"(diff_)?control(net)?[-_]|sd-controlnet-")
CONDITIONS = {
    "mlsd": "hough",
    "softedge": "hed",
    "seg": "ade20k",
    "lineart_anime": "cartoon",
}
"""The published word for a condition where cnctl has another."""
WORDS = frozenset({
    "canny", "depth", "hed", "inpaint", "ip2p", "lineart", "lineart_anime", "mlsd", "normal",
    "normalbae", "openpose", "scribble", "seg", "shuffle", "softedge", "tile",
})  # fmt: skip
"""Words of the published names."""
UNION_KINDS = (
    "pose",
    "depth",
    "soft edges or scribbles",
    "lines (canny, hough, lineart)",
    "normals",
    "segments",
    "tile",
    "repaint",
)
"""What a hint of the published ControlNet-Unions may be, by `Weights.control_type`."""
AVERAGED = frozenset({"shuffle"})
"""Conditions whose published ControlNets average each residual over the picture."""
QUIRKS = {
    "normal": "v1.0's normals were fed with their channels reversed: z first (red), x last (blue)",
    "lineart": "its hints are white lines on black",
    "lineart_anime": "its hints are white lines on black",
    "inpaint": "its hints are the picture, with -1 where it is masked",
}
"""How a published ControlNet wants its hints, where that is a surprise."""


def condition_of(path: Path) -> str:
    """The condition of a published name, as cnctl calls it; "" for other names."""
    word = _word(path)
    return CONDITIONS.get(word, word)


def known_quirk(path: Path) -> str:
    """One sentence on the hints of this published ControlNet, or ""."""
    return QUIRKS.get(_word(path), "")


def _word(path: Path) -> str:
    for name in (path.stem, path.parent.name):  # a diffusers folder bears the name itself
        if _NAME.match(name.lower()):
            parts = re.split(r"[-_.]", name.lower())
            pairs = [f"{one}_{other}" for one, other in pairwise(parts)]
            if word := next((word for word in [*pairs, *parts] if word in WORDS), ""):
                return word
    return ""
