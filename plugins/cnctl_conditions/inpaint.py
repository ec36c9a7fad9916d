"""The picture with a part masked out, which the network is to fill (ControlNet 1.1, no weights)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cnctl.plugin import Condition, Metric, Option, TrainDefaults
from cnctl_conditions.pictures import MAX_SEED, REFERENCE

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Hint, Image, OptionValue

MOST = 0.9
"""Largest share of a picture that is masked at random."""
TURNS = 4


def load_detector(device: str) -> Detector:
    """The picture, masked at random as in training; a mask of the user's own makes a ready hint."""
    import numpy as np

    def detect(image: Image, *, share: float, seed: int) -> Hint:
        mask = random_mask(*image.shape[:2], share=share, seed=seed)
        return np.dstack([image, np.where(mask, np.uint8(0), np.uint8(255))])

    return detect


def random_mask(height: int, width: int, *, share: float, seed: int) -> np.ndarray:
    """Brush strokes that together cover at least this share of the picture: bool (H, W)."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(seed)
    size = np.array([width, height])
    mask = np.zeros((height, width), np.uint8)
    while mask.mean() < share:
        steps = rng.normal(scale=size / TURNS, size=(TURNS, 2))
        path = (rng.uniform(size=2) * size + np.cumsum(steps, axis=0)).astype(np.int32)
        thickness = math.ceil(rng.uniform(1 / 16, 1 / 4) * min(height, width))
        cv2.polylines(mask, [path], isClosed=False, color=1, thickness=thickness)
    return mask > 0


def random_options(rng: np.random.Generator) -> dict[str, OptionValue]:
    return {"share": float(rng.uniform(0, MOST)), "seed": int(rng.integers(MAX_SEED))}


def kept_rmse(hint: Hint, detected: Hint) -> float:
    """RMSE of the colours that the hint shows, in units of the full range; 0 where it shows none.

    What the other hint masks does not count: its colours are the picture's all the same.
    """
    import numpy as np

    shown = hint[..., 3] > 127
    difference = hint[shown][:, :3].astype(np.float64) - detected[shown][:, :3]
    return float(np.sqrt(np.mean(difference**2)) / 255) if shown.any() else 0.0


inpaint = Condition(
    name="inpaint",
    summary="The picture with a part masked out, to be filled",
    load_detector=load_detector,
    masked=True,
    options={
        "share": Option(0.3, "least share to mask at random", minimum=0.0, maximum=MOST),
        "seed": Option(0, "seed of the random mask", minimum=0, maximum=MAX_SEED),
    },
    training_options=random_options,
    train=TrainDefaults(
        recipe="not in the paper: ControlNet 1.1, half of the masks random, half from optical "
        "flow (occlusions); cnctl uses only random masks",
    ),
    metric=Metric(name="kept_rmse", score=kept_rmse, higher_is_better=False),
    licence="Apache-2.0",
    references=(REFERENCE,),
)
