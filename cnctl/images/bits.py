"""16 bits per channel as 8."""

from __future__ import annotations

import numpy as np


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Return uint16 scaled to uint8 and rounded; uint8 is returned unchanged."""
    if values.dtype == np.uint8:
        return values
    return np.round(values.astype(np.float32) / 257).astype(np.uint8)
