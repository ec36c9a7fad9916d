"""The drawing of people that pose ControlNets read.

18 points: 0 nose, 1 neck, 2 to 4 right shoulder, elbow, wrist, 5 to 7 the left ones, 8 to 10 right
hip, knee, ankle, 11 to 13 the left ones, 14 right eye, 15 left eye, 16 right ear, 17 left ear.
"Right" is the person's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnctl_conditions.shared.canvas import blank
from cnctl_conditions.shared.pose_json import BODY, POINTS, read_pose

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Hint
    from cnctl_conditions.shared.pose_json import Person

COLOURS = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0)),
    *((0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255)),
    *((0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)
"""RGB of point i, and of limb i."""
LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11)),
    *((11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
DIMMED = 0.6
RADIUS = 4
STYLES = ("1.1", "1.0")

FINGERS = tuple(
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1)
    for finger in range(5)
    for joint in range(4)
)
HAND_COLOUR = (0, 0, 255)
FACE_COLOUR = (255, 255, 255)
FACE_RADIUS = 3

# COCO's 17 points start: nose, left eye, right eye, left ear, right ear, left shoulder, ...
FROM_COCO = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)


def from_coco(points: Person) -> Person:
    """COCO's 17 points as these 18; the neck is half-way between two seen shoulders."""
    left, right = points[5], points[6]
    neck = None
    if left and right:
        neck = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2, min(left[2], right[2]))
    return [neck if index is None else points[index] for index in FROM_COCO]


def enough_points(people: Sequence[Person], share: float) -> bool:
    """Whether someone shows this share of the points (paper, section 3.5: 30 %)."""
    counts = [sum(point is not None for point in person) for person in people]
    return bool(counts) and max(counts) >= max(1, share * POINTS)


def draw_pose(data: Mapping[str, Any], *, style: str = "1.1", thickness: int = 4) -> Hint:
    """People of such JSON on black, with hands and faces where they are given: uint8 (H, W, 3).

    data: as `read_pose` reads it. style "1.1" draws dimmed limbs, then points over them; "1.0"
    blends limbs over the points.
    """
    document = read_pose(data)
    canvas = blank(document.height, document.width, 3)
    for person in document.people:
        canvas = _draw_body(canvas, person[BODY], style=style, thickness=thickness)
        for side in ("left", "right"):
            _draw_hand(canvas, person[f"hand_{side}_keypoints_2d"])
        _draw_face(canvas, person["face_keypoints_2d"])
    return canvas


def _draw_body(canvas: np.ndarray, points: Person, *, style: str, thickness: int) -> np.ndarray:
    import cv2

    dimmed = style == "1.1"
    if not dimmed:
        _draw_points(canvas, points)
    for (start, end), colour in zip(LIMBS, COLOURS, strict=False):
        a, b = _at(points, start), _at(points, end)
        if a and b:
            shape = _limb(a, b, thickness)
            if dimmed:
                cv2.fillConvexPoly(canvas, shape, [int(DIMMED * value) for value in colour])
            else:
                over = cv2.fillConvexPoly(canvas.copy(), shape, colour)
                canvas = cv2.addWeighted(canvas, 1 - DIMMED, over, DIMMED, 0)
    if dimmed:
        _draw_points(canvas, points)
    return canvas


def _limb(a: Sequence[float], b: Sequence[float], thickness: int) -> np.ndarray:
    """A slim ellipse from one point to the other."""
    import cv2
    import numpy as np

    middle = (int((a[0] + b[0]) / 2), int((a[1] + b[1]) / 2))
    half_length = int(math.hypot(a[0] - b[0], a[1] - b[1]) / 2)
    angle = int(math.degrees(math.atan2(a[1] - b[1], a[0] - b[0])))
    outline = cv2.ellipse2Poly(middle, (half_length, thickness), angle, 0, 360, 1)
    return np.array(outline, np.int32)


def _draw_points(canvas: np.ndarray, points: Person) -> None:
    import cv2

    for point, colour in zip(points, COLOURS, strict=False):
        if point:
            cv2.circle(canvas, (int(point[0]), int(point[1])), RADIUS, colour, thickness=-1)


def _draw_hand(canvas: np.ndarray, points: Person) -> None:
    """Each finger's bones in a hue of their own, then the joints."""
    import colorsys

    import cv2

    for number, (start, end) in enumerate(FINGERS):
        a, b = _at(points, start), _at(points, end)
        if a and b:
            hue = colorsys.hsv_to_rgb(number / len(FINGERS), 1, 1)
            ends = ((int(a[0]), int(a[1])), (int(b[0]), int(b[1])))
            cv2.line(canvas, *ends, [255 * value for value in hue], thickness=2)
    for point in filter(None, points):
        cv2.circle(canvas, (int(point[0]), int(point[1])), RADIUS, HAND_COLOUR, thickness=-1)


def _draw_face(canvas: np.ndarray, points: Person) -> None:
    import cv2

    for point in filter(None, points):
        cv2.circle(canvas, (int(point[0]), int(point[1])), FACE_RADIUS, FACE_COLOUR, thickness=-1)


def _at(points: Person, index: int) -> tuple[float, float, float] | None:
    return points[index] if index < len(points) else None
