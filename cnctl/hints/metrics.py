"""Fidelity of control: the hint that was given against the hint detected again in the output.

"Edges" are pixels where any channel is above 127. "Key points" are spots of one colour with a
channel above 200, as pose hints draw them over dimmer limbs; the colour identifies the point. Two
unrelated images do not score 0: compare a score with that of shuffled pairs, or of an output
without control.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from cnctl.errors import CnctlError
from cnctl.images import eight_bits
from cnctl.plugin import Metric
from cnctl.system.isolation import isolated

TOLERANCE = 64
"""An edge counts as found within 1/64 of the short side, at least one pixel."""
POINT_TOLERANCE = 20
"""A key point counts as found within 1/20 of the short side."""
POINT_LEVEL = 200
OKS_SIGMA = 0.067
"""Mean of the constants that COCO states for its 17 key points."""
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5


def score(metric: str | Metric, hint: np.ndarray, detected: np.ndarray | None) -> float:
    """How well `detected` matches `hint`: two hints of one size, (H, W, C), compared at 8 bits.

    detected: None where the detector found nothing, which scores as an empty hint.
    `find_metric(metric).higher_is_better` says whether more is better.
    """
    if detected is None:
        detected = np.zeros_like(hint)
    if hint.shape != detected.shape:
        raise ValueError(f"hint {hint.shape} and detected hint {detected.shape} differ in shape")
    with isolated():
        return float(find_metric(metric).score(eight_bits(hint), eight_bits(detected)))


def find_metric(metric: str | Metric) -> Metric:
    """The metric of this name; a plugin's own is returned unchanged."""
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


def depth_rmse(hint: np.ndarray, detected: np.ndarray) -> float:
    """RMSE in units of the full range, after the scale (not negative) and shift that fit best.

    Depth from one image is known up to these two only (Ranftl et al., 2020).
    """
    wanted, found = (image.astype(np.float64).mean(axis=2) for image in (hint, detected))
    spread = found.var()
    covariance = ((wanted - wanted.mean()) * (found - found.mean())).mean()
    scale = max(0.0, covariance / spread) if spread else 0.0
    fitted = scale * (found - found.mean()) + wanted.mean()
    return float(np.sqrt(np.mean((wanted - fitted) ** 2)) / 255)


def normal_angle(hint: np.ndarray, detected: np.ndarray) -> float:
    """Mean angle in degrees between normals stored as 127.5 (n + 1), in any order of channels.

    Black pixels hold no normal: those of the hint are left out, those detected are 90 degrees off.
    """
    known = hint.any(axis=2)
    if not known.any():
        return 0.0
    cosine = (_normals(hint) * _normals(detected)).sum(axis=2)[known]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def mean_iou(hint: np.ndarray, detected: np.ndarray) -> float:
    """Intersection over union of each colour, averaged over the colours of either, in [0, 1]."""
    wanted, found = _colour_codes(hint), _colour_codes(detected)
    ratios = []
    for code in np.union1d(wanted, found):
        a, b = wanted == code, found == code
        ratios.append(np.count_nonzero(a & b) / np.count_nonzero(a | b))
    return float(np.mean(ratios))


def pck(hint: np.ndarray, detected: np.ndarray) -> float:
    """Share of the hint's key points found again within the tolerance, in [0, 1]."""
    tolerance = min(hint.shape[:2]) / POINT_TOLERANCE
    return _mean_over_points(hint, detected, lambda distance: float(distance <= tolerance))


def oks(hint: np.ndarray, detected: np.ndarray) -> float:
    """Object key point similarity (COCO), one constant for all points, in [0, 1].

    The object's area is that of the box around the hint's key points.
    """
    points = [point for spots in find_keypoints(hint).values() for point in spots]
    area = float(np.prod(np.ptp(points, axis=0) + 1)) if points else 1.0
    fall = 2 * area * (2 * OKS_SIGMA) ** 2
    return _mean_over_points(hint, detected, lambda distance: float(np.exp(-(distance**2) / fall)))


def find_keypoints(hint: np.ndarray) -> dict[int, np.ndarray]:
    """Colour code -> middles (N, 2), x before y, of the spots of that colour."""
    bright = hint.max(axis=2) > POINT_LEVEL
    codes = np.where(bright, _colour_codes(hint), -1)
    found = {}
    for code in np.unique(codes[bright]):
        spots = cv2.connectedComponentsWithStats((codes == code).astype(np.uint8))[3]
        found[int(code)] = spots[1:]
    return found


METRICS = {
    "edge_f1": Metric(name="edge_f1", score=edge_f1),
    "ssim": Metric(name="ssim", score=ssim),
    "rmse": Metric(name="rmse", score=rmse, higher_is_better=False),
    "depth_rmse": Metric(name="depth_rmse", score=depth_rmse, higher_is_better=False),
    "normal_angle": Metric(name="normal_angle", score=normal_angle, higher_is_better=False),
    "mean_iou": Metric(name="mean_iou", score=mean_iou),
    "pck": Metric(name="pck", score=pck),
    "oks": Metric(name="oks", score=oks),
}


def _normals(hint: np.ndarray) -> np.ndarray:
    """Unit vectors float64 (H, W, 3); zero where the pixel is black."""
    vectors = hint.astype(np.float64) / 127.5 - 1
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    known = hint.any(axis=2, keepdims=True) & (length > 0)
    return np.where(known, vectors / np.where(length > 0, length, 1), 0)


def _colour_codes(hint: np.ndarray) -> np.ndarray:
    """One integer for each colour, (H, W)."""
    codes = np.zeros(hint.shape[:2], np.int64)
    for channel in range(hint.shape[2]):
        codes = codes * 256 + hint[..., channel]
    return codes


def _mean_over_points(
    hint: np.ndarray, detected: np.ndarray, score_of: Callable[[float], float]
) -> float:
    """Mean score of each key point's distance to the nearest of its colour; none found scores 0."""
    wanted, found = find_keypoints(hint), find_keypoints(detected)
    if not wanted:
        return float(not found)
    scores = []
    for code, points in wanted.items():
        for point in points:
            near = found.get(code, np.zeros((0, 2)))
            distances = np.linalg.norm(near - point, axis=1)
            scores.append(score_of(float(distances.min())) if len(distances) else 0.0)
    return float(np.mean(scores))


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
