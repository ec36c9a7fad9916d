"""Rules about hints. A rule gives None for a hint that it does not apply to."""

from __future__ import annotations

import cv2
import numpy as np

from cnctl.curation.rules.subject import Found

BODY = "pose_keypoints_2d"


def contrast(found: Found) -> float | None:
    """The greatest distance between two values of one channel, 0 to 255; a dead hint has 0."""
    ends = [cv2.minMaxLoc(channel)[:2] for channel in found.channels]
    return max(most - least for least, most in ends)


def edge_density(found: Found) -> float | None:
    """The share of white pixels of a hint in black and white that is compared by its edges."""
    if found.metric != "edge_f1":
        return None
    grey = found.channels[0]
    white, edges = cv2.countNonZero(cv2.compare(grey, 255, cv2.CMP_EQ)), cv2.countNonZero(grey)
    if white < edges:
        return None
    return round(white / grey.size, 5)


def key_points(found: Found) -> float | None:
    """The share of a body's key points that the most complete person shows (paper, section 3.5)."""
    people = found.data.get("people")
    if not isinstance(people, list):
        return None
    bodies = [np.reshape(person.get(BODY) or [], (-1, 3)) for person in people]
    shares = [float((body[:, 2] > 0).mean()) for body in bodies if len(body)]
    return round(max(shares, default=0.0), 4)


def lines(found: Found) -> float | None:
    """How many lines there are."""
    found_lines = found.data.get("lines")
    return float(len(found_lines)) if isinstance(found_lines, list) else None


def depth_range(found: Found) -> float | None:
    """The share of all levels between the 1st and the 99th percentile of depth."""
    if found.metric != "depth_rmse":
        return None
    low, high = np.percentile(found.hint[..., 0], (1, 99))
    return round(float(high - low) / 255, 4)
