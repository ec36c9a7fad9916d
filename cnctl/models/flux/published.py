"""Bases of FLUX.1 that are published on the hub, and the ControlNets for them by condition.

Standard library only, as `cnctl conditions` and `cnctl models` list them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cnctl.models.flux.shape import NAME
from cnctl.weights import PublishedBase, Weights

LICENCE = "FLUX.1 [dev] Non-Commercial License"
BASES: Mapping[str, PublishedBase] = {
    "flux-dev": PublishedBase(family=NAME, ids=("black-forest-labs/FLUX.1-dev",), licence=LICENCE),
    "flux-schnell": PublishedBase(
        family=NAME, ids=("black-forest-labs/FLUX.1-schnell",), licence="Apache-2.0"
    ),
}
UNION = "Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0"
"""Reads canny, soft edges, depth and poses; which of them is not an input."""
MODES = {"canny": 0, "tile": 1, "depth": 2, "blur": 3, "pose": 4}
"""What the unions of InstantX, and Shakker's first one, are given (their model cards)."""


def _weights(source: str, mode: int | None = None) -> Weights:
    return Weights(source=source, family=NAME, licence=LICENCE, control_type=mode)


def _published(*sources: str, kind: str = "") -> tuple[Weights, ...]:
    """ControlNets for one condition, and InstantX's union with the kind of its hints."""
    own = tuple(map(_weights, sources))
    union = _weights("InstantX/FLUX.1-dev-Controlnet-Union", MODES.get(kind))
    return (*own, union) if kind else own


def _lora(kind: str) -> Weights:
    """Black-forest-labs' LoRA that reads hints as further input channels."""
    return Weights(
        source=f"black-forest-labs/FLUX.1-{kind.title()}-dev-lora",
        family=NAME,
        licence=LICENCE,
        file=f"flux1-{kind}-dev-lora.safetensors",
    )


CANNY = (
    *_published(
        UNION,
        "InstantX/FLUX.1-dev-Controlnet-Canny",
        "XLabs-AI/flux-controlnet-canny-diffusers",
        kind="canny",
    ),
    _lora("canny"),
)
DEPTH = (
    *_published(
        UNION,
        "Shakker-Labs/FLUX.1-dev-ControlNet-Depth",
        "jasperai/Flux.1-dev-Controlnet-Depth",
        "XLabs-AI/flux-controlnet-depth-diffusers",
        kind="depth",
    ),
    _lora("depth"),
)
POSE = _published(UNION, kind="pose")
CONTROLNETS: Mapping[str, Mapping[str, tuple[Weights, ...]]] = {
    NAME: {
        "blur-gaussian": _published(kind="blur"),
        "canny": CANNY,
        "depth": DEPTH,
        "depth-anything": DEPTH,
        "hed": _published(UNION, "XLabs-AI/flux-controlnet-hed-diffusers"),
        "normal-bae": _published("jasperai/Flux.1-dev-Controlnet-Surface-Normals"),
        "openpifpaf": POSE,
        "openpose": POSE,
        "pose": POSE,
        "softedge-pidi": _published(UNION),
        "tile": _published(kind="tile"),
    },
}
"""Family -> condition -> published ControlNets, best first."""
GUIDANCE = {"canny": 30, "depth": 10}
"""The scale of guidance in diffusers' examples for the Canny and Depth models."""
WORDS = {"canny": "canny", "depth": "depth", "hed": "hed", "normals": "normal-bae"}
"""Words of published names, and the conditions that they mean."""


def condition_of(path: Path) -> str:
    """The condition that a published name says; "" for other names."""
    for part in (path.stem, *(parent.name for parent in path.parents)):
        name = part.lower()
        if "flux" in name and ("controlnet" in name or "lora" in name):
            return next((WORDS[word] for word in WORDS if word in name), "")
    return ""


def recommended_guidance(path: Path) -> tuple[str, ...]:
    """A sentence on the scale of guidance that a published LoRA is used with, where it is known."""
    scale = GUIDANCE.get(condition_of(path)) if path.stem.lower().startswith("flux1-") else None
    return (f"diffusers' example uses --distilled-guidance {scale}",) if scale else ()
