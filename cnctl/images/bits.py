"""Eight bits of sixteen."""

from __future__ import annotations

import numpy as np


def eight_bits(values: np.ndarray) -> np.ndarray:
    """uint16 scaled to uint8 and rounded; uint8 as it is."""
    if values.dtype == np.uint8:
        return values
    return np.round(values.astype(np.float32) / 257).astype(np.uint8)
