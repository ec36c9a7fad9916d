"""Show an image in a terminal: by its graphics protocol, or as two pixels in each character."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping

import numpy as np

from cnctl.images.fit import fit_image
from cnctl.images.write import encode_image

UPPER_HALF = "\u2580"
KITTY_CHUNK = 4096
"""Bytes of base64 in one of kitty's escape sequences, at most."""
KITTY = ("xterm-kitty", "xterm-ghostty")
"""Values of TERM whose terminals support kitty's graphics protocol."""
ITERM = ("iTerm.app", "WezTerm", "mintty")
"""Values of TERM_PROGRAM whose terminals support iTerm2's inline images."""


def draw(image: np.ndarray, *, columns: int, environ: Mapping[str, str] = os.environ) -> str:
    """Return RGB uint8 (H, W, 3) as text of this many columns, in the best way supported here.

    Multiplexers do not pass graphics on, so there the image is drawn by half blocks.
    """
    if "TMUX" in environ or "STY" in environ:
        return half_blocks(image, columns=columns)
    if environ.get("TERM") in KITTY:
        return kitty(image, columns=columns)
    if environ.get("TERM_PROGRAM") in ITERM:
        return iterm(image, columns=columns)
    return half_blocks(image, columns=columns)


def kitty(image: np.ndarray, *, columns: int) -> str:
    """Return the image by kitty's graphics protocol: a PNG in chunks, without a reply."""
    data = _png(image)
    chunks = [data[i : i + KITTY_CHUNK] for i in range(0, len(data), KITTY_CHUNK)]
    keys = [f"a=T,f=100,q=2,c={columns},", *[""] * (len(chunks) - 1)]
    more = [*["m=1"] * (len(chunks) - 1), "m=0"]
    parts = zip(keys, more, chunks, strict=True)
    return "".join(f"\033_G{key}{last};{chunk}\033\\" for key, last, chunk in parts)


def iterm(image: np.ndarray, *, columns: int) -> str:
    """Return the image by iTerm2's inline images protocol."""
    return f"\033]1337;File=inline=1;width={columns}:{_png(image)}\a"


def half_blocks(image: np.ndarray, *, columns: int) -> str:
    """Return RGB uint8 (H, W, 3) as lines of this many characters; the aspect is kept.

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


def _png(image: np.ndarray) -> str:
    return base64.b64encode(encode_image(image, ".png", {})).decode()
