"""A picture in a terminal: two pixels in each character, by half blocks and 24-bit colours."""

from __future__ import annotations

import numpy as np

from cnctl.images.fit import fit_image

UPPER_HALF = "\u2580"


def half_blocks(image: np.ndarray, *, columns: int) -> str:
    """RGB uint8 (H, W, 3) as lines of so many characters, the aspect kept.

    Each character is an upper half block: its colour is the upper pixel's, its background's the
    lower one's.
    """
    height, width = image.shape[:2]
    rows = max(1, round(height * columns / width / 2))
    pixels = fit_image(image, size=(2 * rows, columns))
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = [
            f"\033[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m{UPPER_HALF}"
            for a, b in zip(upper.tolist(), lower.tolist(), strict=True)
        ]
        lines.append("".join(cells) + "\033[0m")
    return "\n".join(lines)
