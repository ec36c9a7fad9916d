"""Canny edges: the cheapest condition, with no weights to fetch (paper, section 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnctl.plugin import Condition, Option, TrainDefaults
from cnctl_conditions.shared.annotators import SECTION

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Image, OptionValue


def load_detector(device: str) -> Detector:
    """cv2.Canny, which runs on the CPU whatever the device."""
    import cv2

    def detect(image: Image, *, low_threshold: int, high_threshold: int) -> np.ndarray:
        return cv2.Canny(image, low_threshold, high_threshold)

    return detect


def random_thresholds(rng: np.random.Generator) -> dict[str, OptionValue]:
    """Two thresholds from the whole range; the paper says "random" and gives no distribution."""
    low, high = sorted(int(threshold) for threshold in rng.integers(1, 256, size=2))
    return {"low_threshold": low, "high_threshold": high}


canny = Condition(
    name="canny",
    summary="Canny edges, white on black",
    load_detector=load_detector,
    options={
        "low_threshold": Option(100, "weaker edges are dropped", minimum=1, maximum=255),
        "high_threshold": Option(200, "stronger edges are kept", minimum=1, maximum=255),
    },
    train=TrainDefaults(
        recipe="3M edge-image-caption pairs from the internet, random thresholds; "
        "600 A100 80G GPU-hours on Stable Diffusion 1.5",
    ),
    training_options=random_thresholds,
    metric="edge_f1",
    base="stable-diffusion-v1-5/stable-diffusion-v1-5",
    licence="Apache-2.0",
    references=(
        SECTION,
        "Canny: A Computational Approach to Edge Detection, IEEE TPAMI 8(6), 1986",
    ),
)
