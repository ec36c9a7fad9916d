"""Surface normals, coarse, from MiDaS' depth (paper, section 3.5, "extended")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import Condition, Option, TrainDefaults
from cnctl_conditions.depth import MIDAS, MIDAS_FILE
from cnctl_conditions.shared.annotators import SECTION, sd15

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Hint, Image


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    from cnctl_conditions.depth import load_estimator

    estimate = load_estimator(MIDAS, files["model"], device=device)

    def detect(image: Image, *, strength: float, background: float, order: str) -> Hint:
        normals = normals_of(estimate(image), strength=strength, background=background)
        return to_hint(normals, order=order)

    return detect


def normals_of(disparity: np.ndarray, *, strength: float, background: float) -> np.ndarray:
    """Unit normals float64 (H, W, 3) of a map in which near is large: x, y, z.

    x grows where the surface faces left, y where it faces up, z towards the viewer. The larger
    `strength`, the flatter. What is farther than `background` (0 farthest, 1 nearest) faces the
    viewer.
    """
    import cv2
    import numpy as np

    values = disparity.astype(np.float64)
    x = cv2.Sobel(values, cv2.CV_64F, 1, 0, ksize=3)
    y = cv2.Sobel(values, cv2.CV_64F, 0, 1, ksize=3)
    nearness = (values - values.min()) / max(np.ptp(values), np.finfo(float).tiny)
    far = nearness < background
    x[far], y[far] = 0, 0
    normals = np.stack([x, y, np.full_like(x, strength)], axis=2)
    return normals / np.linalg.norm(normals, axis=2, keepdims=True)


def to_hint(normals: np.ndarray, *, order: str) -> Hint:
    """uint8 of 127.5 (n + 1). order: which of x, y, z is red, green and blue."""
    import numpy as np

    colours = (127.5 * normals + 127.5).clip(0, 255).astype(np.uint8)
    return colours[..., ["xyz".index(axis) for axis in order]]


def from_maps(maps: Mapping[str, Any], *, order: str, **_: float) -> Hint:
    """Of a renderer's normals, whose x grows to the right and not, as here, to the left."""
    return to_hint(maps["normals"] * (-1, 1, 1), order=order)


normal = Condition(
    name="normal",
    summary="Surface normals from MiDaS' depth",
    load_detector=load_detector,
    files={"model": MIDAS_FILE},
    options={
        "strength": Option(2 * math.pi, "larger is flatter", minimum=0.1, maximum=100.0),
        "background": Option(
            0.4, "what is farther faces the viewer; 0 farthest", minimum=0.0, maximum=1.0
        ),
        "order": Option(
            "zyx",
            "axes in red, green, blue: zyx for ControlNet 1.0, xyz for 1.1",
            choices=("zyx", "xyz"),
        ),
    },
    train=TrainDefaults(
        start_from="normal",
        recipe="first DIODE captioned by BLIP, 25,452 pairs, 100 A100 80G GPU-hours; extended: "
        "normals from MiDaS' depth, from that model on, 200 A100 80G GPU-hours",
    ),
    from_maps=from_maps,
    metric="normal_angle",
    weights=sd15("sd-controlnet-normal"),
    licence="Apache-2.0",
    references=(
        SECTION,
        "Ranftl et al.: Towards Robust Monocular Depth Estimation, IEEE TPAMI 44(3), 2022 (MiDaS)",
    ),
)
