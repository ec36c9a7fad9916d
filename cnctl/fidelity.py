"""Fidelity of control: the hint that was given against the hint detected again in the output.

"Edges" are pixels where any channel is above 127. Two images that have nothing to do with each
other do not score 0: compare a score with that of shuffled pairs, or of an output without control.
"""

from __future__ import annotations

import cv2
import numpy as np

from cnctl.errors import CnctlError
from cnctl.plugin import Metric

TOLERANCE = 64
"""An edge counts as found within 1/64 of the short side, at least one pixel."""
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5


def score(metric: str | Metric, hint: np.ndarray, detected: np.ndarray | None) -> float:
    """How well `detected` obeys `hint`: two hints of one size, uint8 (H, W, C).

    detected None means that the detector found nothing, which scores as an empty hint. Whether
    more is better says `find_metric(metric).higher_is_better`.
    """
    if detected is None:
        detected = np.zeros_like(hint)
    if hint.shape != detected.shape:
        raise ValueError(f"hint {hint.shape} and detected hint {detected.shape} differ in shape")
    return float(find_metric(metric).score(hint, detected))


def find_metric(metric: str | Metric) -> Metric:
    """The metric of this name, or a plugin's own as it is."""
    if isinstance(metric, Metric):
        return metric
    if metric not in METRICS:
        raise CnctlError(f"unknown metric {metric!r}", hint=f"known are {', '.join(METRICS)}")
    return METRICS[metric]


def edge_f1(hint: np.ndarray, detected: np.ndarray) -> float:
    """Harmonic mean of precision and recall of edge pixels, in [0, 1], within the tolerance."""
    wanted, found = _edges(hint), _edges(detected)
    if not wanted.any() and not found.any():
        return 1.0
    tolerance = max(1.0, min(wanted.shape) / TOLERANCE)
    precision = _share_near(found, wanted, tolerance)
    recall = _share_near(wanted, found, tolerance)
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0


def ssim(hint: np.ndarray, detected: np.ndarray) -> float:
    """Structural similarity in [-1, 1], Gaussian window of sigma 1.5 (Wang et al., 2004)."""
    a, b = hint.astype(np.float64), detected.astype(np.float64)
    mean_a, mean_b = _smooth(a), _smooth(b)
    variance_a = _smooth(a * a) - mean_a**2
    variance_b = _smooth(b * b) - mean_b**2
    covariance = _smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float((luminance * structure).mean())


def rmse(hint: np.ndarray, detected: np.ndarray) -> float:
    """Root of the mean squared difference, in units of the full range: 0 is equal, 1 opposite."""
    difference = hint.astype(np.float64) - detected.astype(np.float64)
    return float(np.sqrt(np.mean(difference**2)) / 255)


METRICS = {
    "edge_f1": Metric(name="edge_f1", score=edge_f1),
    "ssim": Metric(name="ssim", score=ssim),
    "rmse": Metric(name="rmse", score=rmse, higher_is_better=False),
}


def _edges(hint: np.ndarray) -> np.ndarray:
    return hint.max(axis=2) > 127


def _share_near(edges: np.ndarray, others: np.ndarray, tolerance: float) -> float:
    """Share of `edges` with one of `others` no farther away than the tolerance."""
    if not edges.any() or not others.any():
        return 0.0
    distance = cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[edges] <= tolerance).mean())


def _smooth(image: np.ndarray) -> np.ndarray:
    """Gaussian mean around each pixel of float (H, W, C), channel by channel."""
    size = 2 * SSIM_RADIUS + 1
    channels = [
        cv2.GaussianBlur(np.ascontiguousarray(image[..., c]), (size, size), SSIM_SIGMA)
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=2)
