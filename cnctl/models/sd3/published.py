"""Bases of SD3 that are published on the hub, and the ControlNets for them by condition.

Standard library only, as `cnctl conditions` and `cnctl models` list them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cnctl.weights import UNCHECKED, PublishedBase, Weights

LICENCE = "Stability AI Community License"
"""Free of charge for a yearly revenue under one million dollars."""
BASES: Mapping[str, PublishedBase] = {
    "sd3-medium": PublishedBase(
        family="SD3 medium",
        ids=("stabilityai/stable-diffusion-3-medium-diffusers",),
        licence=LICENCE,
    ),
    "sd35-medium": PublishedBase(
        family="SD3.5 medium", ids=("stabilityai/stable-diffusion-3.5-medium",), licence=LICENCE
    ),
    "sd35-large": PublishedBase(
        family="SD3.5 large", ids=("stabilityai/stable-diffusion-3.5-large",), licence=LICENCE
    ),
}


def _instantx(word: str) -> tuple[Weights, ...]:
    source = f"InstantX/SD3-Controlnet-{word}"
    return (Weights(source=source, family="SD3 medium", licence=LICENCE),)


def _large(word: str) -> tuple[Weights, ...]:
    source = f"stabilityai/stable-diffusion-3.5-large-controlnet-{word}"
    return (Weights(source=source, family="SD3.5 large", licence=LICENCE),)


def _tiny(name: str) -> tuple[Weights, ...]:
    """One that the embedded base brings along; cnctl's own."""
    return (Weights(source=f"tiny-flow/{name}", family="tiny-flow", licence="Apache-2.0"),)


CONTROLNETS: Mapping[str, Mapping[str, tuple[Weights, ...]]] = {
    "SD3 medium": {
        "canny": _instantx("Canny"),
        "inpaint": (
            Weights(
                source="alimama-creative/SD3-Controlnet-Inpainting",
                family="SD3 medium",
                licence=UNCHECKED,
            ),
        ),
        "openpifpaf": _instantx("Pose"),
        "openpose": _instantx("Pose"),
        "pose": _instantx("Pose"),
        "tile": _instantx("Tile"),
    },
    "SD3.5 medium": {
        "canny": (
            Weights(
                source="tensorart/SD3.5M-Controlnet-Canny", family="SD3.5 medium", licence=LICENCE
            ),
        ),
    },
    "SD3.5 large": {
        "blur-gaussian": _large("blur"),
        "canny": _large("canny"),
        "depth": _large("depth"),
        "depth-anything": _large("depth"),
    },
    "tiny-flow": {
        "canny": _tiny("canny"),
        "depth": _tiny("depth"),
        "depth-anything": _tiny("depth"),
        "depth-zoe": _tiny("depth"),
        "scribble": _tiny("scribble"),
    },
}
"""Family -> condition -> published ControlNets, best first."""

SHIFTED = ("stable-diffusion-3.5-large-controlnet-canny", "sd3.5_large_controlnet_canny")
"""Names of Stability's ControlNet for canny, the original's file included."""
WORDS = {"canny": "canny", "pose": "openpose", "tile": "tile", "depth": "depth"}
WORDS |= {"blur": "blur-gaussian"}
"""Words of published names, and the conditions that they mean."""


def condition_of(path: Path) -> str:
    """The condition that a published name says; "" for other names."""
    for part in (path.stem, *(parent.name for parent in path.parents)):
        name = part.lower()
        if "controlnet" in name and ("sd3" in name or "stable-diffusion-3" in name):
            return next((WORDS[word] for word in WORDS if name.endswith(word)), "")
    return ""


def hint_bounds(path: Path) -> tuple[float, float] | None:
    """What black and white were for the autoencoder in training, where it is not -1 and 1.

    Stability trained its ControlNet for canny on 127.5 x + 0.5 (its model card; no config says so).
    """
    names = [path.name, *(parent.name for parent in path.parents)]
    return (0.5, 128.0) if any(mark in name for name in names for mark in SHIFTED) else None


def known_quirk(path: Path) -> str:
    """One sentence on the hints of this published ControlNet, or ""."""
    if not hint_bounds(path):
        return ""
    return "its hints were trained as 127.5 x + 0.5 where others have 2 x - 1; cnctl does so too"
