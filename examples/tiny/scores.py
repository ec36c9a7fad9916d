"""Scores of pictures: distance to another picture, and agreement of edges."""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def psnr(picture: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio in dB of uint8 pictures of one shape."""
    error = float(np.mean((picture.astype(np.float64) - other) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def edges(picture: Picture, low: int = 100, high: int = 200) -> Picture:
    """Canny edges of an RGB picture, uint8 (H, W), 0 or 255."""
    return cv2.Canny(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY), low, high)


def edge_f1(wanted: Picture, found: Picture, *, tolerance: int) -> float:
    """F1 of edge pixels, each counted as met by one of the other map within `tolerance` px."""
    kernel = np.ones((2 * tolerance + 1, 2 * tolerance + 1), np.uint8)
    wanted, found = (wanted > 0).astype(np.uint8), (found > 0).astype(np.uint8)
    if not wanted.any() or not found.any():
        return float(wanted.any() == found.any())
    precision = (found & cv2.dilate(wanted, kernel)).sum() / found.sum()
    recall = (wanted & cv2.dilate(found, kernel)).sum() / wanted.sum()
    return float(2 * precision * recall / max(precision + recall, 1e-9))
