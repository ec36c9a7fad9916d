"""The black canvas that drawn hints begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnctl.plugin import CnctlError

if TYPE_CHECKING:
    from cnctl.plugin import Hint

MOST_PIXELS = 8192 * 8192
"""A file may ask for any size, and would be given all memory."""


def blank(height: Any, width: Any, *channels: int) -> Hint:
    """Zeros, uint8 (height, width, *channels); CnctlError where a file says no such size."""
    import numpy as np

    are_sides = all(isinstance(side, int | float) and side >= 1 for side in (height, width))
    if not are_sides or height * width > MOST_PIXELS:
        raise CnctlError(
            f"a canvas of {width} x {height} cannot be drawn",
            hint=f"it has at most {MOST_PIXELS / 1e6:.0f} million pixels, and at least 1 x 1",
        )
    return np.zeros((int(height), int(width), *channels), np.uint8)
