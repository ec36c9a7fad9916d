"""Resize images and hints to sizes that a network can work on."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from cnctl.errors import CnctlError
from cnctl.images.opening import MAX_PIXELS

MOST_CHANNELS = 4
"""How many channels cv2 resizes at once by every method."""
Resize = Literal["stretch", "crop", "fill"]


def working_size(height: int, width: int, *, resolution: int, multiple: int = 8) -> tuple[int, int]:
    """Return (height, width) of the same aspect, the short side at `resolution`, as multiples.

    Raises CnctlError where that is too large to work on, as of a very narrow image.
    """
    scale = resolution / min(height, width)
    rows, columns = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    if rows * columns > MAX_PIXELS:
        raise CnctlError(
            f"a {width} x {height} image would become {columns} x {rows} at resolution "
            f"{resolution}; the limit is {MAX_PIXELS / 1e6:.0f} million pixels",
            hint="crop it, or choose a smaller --resolution",
        )
    return rows, columns


def fit_image(
    image: np.ndarray, *, size: tuple[int, int], resize: Resize = "stretch", nearest: bool = False
) -> np.ndarray:
    """Return an image (H, W, C) or (H, W) resized to `size` = (height, width), of the same dtype.

    "stretch" changes the aspect, "crop" keeps it and cuts off both ends evenly, "fill" keeps it and
    pads with 0. nearest: introduce no new values, for palettes.
    """
    if resize == "stretch":
        return _resize(image, size, nearest)
    height, width = image.shape[:2]
    scales = size[0] / height, size[1] / width
    scale = max(scales) if resize == "crop" else min(scales)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    return _center(_resize(image, inner, nearest), size)


def fit_hint(
    hint: np.ndarray, *, size: tuple[int, int], resize: Resize = "stretch", palette: bool = False
) -> np.ndarray:
    """Return a hint (H, W, C) resized as by `fit_image`; a palette keeps its colours, and a hint of
    black and white stays one. A thin line would otherwise fade to grey when it is shrunk, and a
    network that was trained on white lines would not see it.
    """
    fitted = fit_image(hint, size=size, resize=resize, nearest=palette)
    white = np.iinfo(hint.dtype).max
    if palette or not np.isin(hint, (0, white)).all():
        return fitted
    scale = min(1.0, size[0] / hint.shape[0], size[1] / hint.shape[1])
    return np.where(fitted >= white * scale / 2, white, 0).astype(hint.dtype)


def fit_pair(
    image: np.ndarray,
    hint: np.ndarray | None,
    *,
    size: tuple[int, int],
    at: tuple[float, float] = (0.5, 0.5),
    palette: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return image and hint scaled to cover `size` and cropped alike; the hint as by `fit_hint`.

    A hint describes the whole image, whatever its size: it is scaled to it before the crop.
    at: (y, x), the share of the excess that is cut off at the top and at the left.
    """
    scaled, (top, left) = cover((image.shape[0], image.shape[1]), size=size, at=at)
    window = slice(top, top + size[0]), slice(left, left + size[1])
    if hint is not None:
        hint = fit_hint(hint, size=scaled, palette=palette)[window].copy()
    return _resize(image, scaled, nearest=False)[window].copy(), hint


def cover(
    original: tuple[int, int], *, size: tuple[int, int], at: tuple[float, float] = (0.5, 0.5)
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size that covers `size` at the original aspect, and the crop's (top, left)."""
    scale = max(size[0] / original[0], size[1] / original[1])
    scaled = max(size[0], round(original[0] * scale)), max(size[1], round(original[1] * scale))
    top, left = (int((s - side) * share) for s, side, share in zip(scaled, size, at, strict=True))
    return scaled, (top, left)


def _resize(image: np.ndarray, size: tuple[int, int], nearest: bool) -> np.ndarray:
    if image.shape[:2] == size:
        return image.copy()
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    smooth = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    method = cv2.INTER_NEAREST_EXACT if nearest else smooth
    layers = np.atleast_3d(image)
    parts = [
        cv2.resize(np.ascontiguousarray(part), size[::-1], interpolation=method).reshape(*size, -1)
        for part in np.split(layers, range(MOST_CHANNELS, layers.shape[2], MOST_CHANNELS), axis=2)
    ]
    return np.concatenate(parts, axis=2).reshape(*size, *image.shape[2:])


def _center(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Crop, or pad with 0, evenly at both ends, to reach `size`."""
    for axis in (0, 1):
        excess = image.shape[axis] - size[axis]
        if excess > 0:
            image = np.take(image, range(excess // 2, excess // 2 + size[axis]), axis=axis)
        before = max(0, -excess) // 2
        margins = [(0, 0)] * image.ndim
        margins[axis] = (before, max(0, -excess) - before)
        image = np.pad(image, margins)
    return image
