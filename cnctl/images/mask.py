"""Masks: grey pictures that say where something may happen."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnctl.errors import CnctlError, shown
from cnctl.images.stored import read_hint

GREY_TOLERANCE = 16 / 255
"""How far the channels of a grey picture may be apart; JPEG moves them by a few levels."""


def read_mask(path: str | Path) -> np.ndarray:
    """Return a mask as float32 (H, W) in [0, 1]: white is 1; black and transparent are 0.

    The file may be grey of 1, 8 or 16 bits, with a palette, with alpha, or grey stored as colour.
    Raises CnctlError for a picture with colours.
    """
    pixels = read_hint(path, channels=3)
    grey = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    if np.ptp(grey, axis=2).max() > GREY_TOLERANCE:
        raise CnctlError(
            f"the mask {shown(path)} has colours; a mask is grey: white where something may "
            "happen, black elsewhere",
            hint="save it as greyscale",
        )
    return grey.mean(axis=2)
