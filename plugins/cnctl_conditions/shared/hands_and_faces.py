"""OpenPose's points of hands and faces, looked for where a body's points say that they are.

The networks are controlnet_aux's. A hand has 21 points, a face 70.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cnctl_conditions.shared.pose_json import HAND_POINTS

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Image
    from cnctl_conditions.shared.pose_json import Person

    Box = tuple[int, int, int]
    """Left, top and side of a square in pixels."""

ARMS = {"left": (5, 6, 7), "right": (2, 3, 4)}
"""Shoulder, elbow and wrist."""
NOSE, EYES, EARS = 0, (14, 15), (16, 17)
BEYOND_WRIST = 0.33
LEAST_SIDE = 20
LEAST_HEAT = 0.05

HAND_SIDES = (184, 368, 552, 736)
HAND_MAP = 128
FACE_POINTS = 70
FACE_SIDE = 384


def load_details(
    device: str, files: Mapping[str, Path], *, hands: bool, faces: bool
) -> Callable[[Image, Person], dict[str, Person]]:
    """(image, points of a body) -> what is asked for, by its name in JSON; only what is found."""
    find_hand = load_hands(device, files["hand"]) if hands else None
    find_face = load_faces(device, files["face"]) if faces else None

    def look(image: Image, person: Person) -> dict[str, Person]:
        height, width = image.shape[:2]
        found = {}
        for side in ARMS:
            if find_hand and (box := hand_box(person, side, width=width, height=height)):
                found[f"hand_{side}_keypoints_2d"] = find_hand(image, box)
        if find_face and (box := face_box(person, width=width, height=height)):
            found["face_keypoints_2d"] = find_face(image, box)
        return found

    return look


def hand_box(person: Person, side: str, *, width: int, height: int) -> Box | None:
    """Where the hand is, beyond the wrist; None where the arm is not seen or is too small."""
    shoulder, elbow, wrist = (person[index] for index in ARMS[side])
    if not (shoulder and elbow and wrist):
        return None
    lower, upper = math.dist(wrist[:2], elbow[:2]), math.dist(elbow[:2], shoulder[:2])
    size = 1.5 * max(lower, 0.9 * upper)
    middle = [w + BEYOND_WRIST * (w - e) for w, e in zip(wrist[:2], elbow[:2], strict=True)]
    return _box(middle, size, width, height)


def face_box(person: Person, *, width: int, height: int) -> Box | None:
    """A square around the nose, by how far the eyes and ears are; None where they are not seen."""
    nose = person[NOSE]
    reaches = [(person[index], 3.0) for index in EYES] + [(person[index], 1.5) for index in EARS]
    if not nose or not any(point for point, _ in reaches):
        return None
    half = max(
        factor * max(abs(nose[0] - point[0]), abs(nose[1] - point[1]))
        for point, factor in reaches
        if point
    )
    return _box(nose[:2], 2 * half, width, height)


def load_hands(device: str, path: Path) -> Callable[[Image, Box], Person]:
    """(image, box of a hand) -> its points in pixels of the image."""
    import cv2
    import numpy as np

    from cnctl_conditions.shared.networks import import_network
    from cnctl_conditions.shared.openpose_networks import load_openpose, resize, run

    network = load_openpose(import_network("open_pose.model", "handpose_model"), path, device)

    def find(image: Image, box: Box) -> Person:
        crop = cv2.GaussianBlur(_crop(image, box), (0, 0), 0.8)
        heat = np.mean([heat_at(crop, side) for side in HAND_SIDES], axis=0)
        return hand_points(heat, box)

    def heat_at(crop: Image, side: int) -> np.ndarray:
        maps = run(network, resize(crop, side, side), device)[0, :HAND_POINTS].cpu().numpy()
        grown = [resize(one, side, side) for one in maps]
        return np.stack([resize(one, HAND_MAP, HAND_MAP) for one in grown], axis=2)

    return find


def hand_points(heat: np.ndarray, box: Box) -> Person:
    """Returns the peak of the warmest spot of each heat map (h, w, 21), in pixels of the image."""
    import cv2
    import numpy as np

    points: list[tuple[float, float, float] | None] = []
    scale = box[2] / heat.shape[0]
    for part in range(heat.shape[2]):
        one = heat[..., part]
        blurred = cv2.GaussianBlur(one, (25, 25), 3.0, borderType=cv2.BORDER_REFLECT)
        count, spots = cv2.connectedComponents((blurred > LEAST_HEAT).astype(np.uint8))
        if count == 1:
            points.append(None)
            continue
        warmest = 1 + int(np.argmax([one[spots == spot].sum() for spot in range(1, count)]))
        y, x = np.unravel_index(np.where(spots == warmest, one, 0).argmax(), one.shape)
        points.append((box[0] + int(x * scale), box[1] + int(y * scale), float(one[y, x])))
    return points


def load_faces(device: str, path: Path) -> Callable[[Image, Box], Person]:
    """(image, box of a face) -> its points in pixels of the image."""
    import torch

    from cnctl_conditions.shared.networks import import_network, load_network
    from cnctl_conditions.shared.openpose_networks import resize, run

    network = load_network(import_network("open_pose.face", "FaceNet"), path, device=device)

    def find(image: Image, box: Box) -> Person:
        crop = _crop(image, box)
        maps = run(network, resize(crop, FACE_SIDE, FACE_SIDE), device)[-1]
        heat = torch.nn.functional.interpolate(
            maps, crop.shape[:2], mode="bilinear", align_corners=True
        )
        return face_points(heat[0, :FACE_POINTS].cpu().numpy(), box)

    return find


def face_points(heat: np.ndarray, box: Box) -> Person:
    """Returns the peak of each map of heat (70, h, w), in pixels of the image."""
    import numpy as np

    points: list[tuple[float, float, float] | None] = []
    for one in heat:
        y, x = np.unravel_index(one.argmax(), one.shape)
        warm = float(one[y, x])
        points.append((box[0] + int(x), box[1] + int(y), warm) if warm > LEAST_HEAT else None)
    return points


def _box(middle: Sequence[float], size: float, width: int, height: int) -> Box | None:
    """A square of this size around the middle, moved and cut so that it lies in the image."""
    left, top = (max(0.0, value - size / 2) for value in middle)
    side = min(size, width - left, height - top)
    return (int(left), int(top), int(side)) if side >= LEAST_SIDE else None


def _crop(image: Image, box: Box) -> Image:
    left, top, side = box
    return image[top : top + side, left : left + side]
