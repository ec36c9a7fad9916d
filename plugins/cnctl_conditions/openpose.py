"""People's poses by OpenPose (paper, section 3.5). Its weights are for non-commercial use only.

The network is controlnet_aux's; what is made of its maps is written here after the paper of Cao et
al. (part affinity fields).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.plugin import Condition, Detection, Option, TrainDefaults
from cnctl_conditions.shared.annotators import SECTION, annotator
from cnctl_conditions.shared.openpose_networks import STRIDE
from cnctl_conditions.shared.pose_json import to_json
from cnctl_conditions.shared.skeleton import (
    LIMBS,
    POINTS,
    STYLES,
    draw_pose,
    enough_points,
)

if TYPE_CHECKING:
    import numpy as np

    from cnctl.plugin import Detector, Hint, Image, OptionValue
    from cnctl_conditions.shared.pose_json import Person

    Maps = Callable[[Image], tuple[np.ndarray, np.ndarray]]

NETWORK_HEIGHT = 184
PADDING = 128
PEAK = 0.1
AFFINITY = 0.05
SAMPLES = 10
PASSING = 0.8
LEAST_POINTS = 4
LEAST_SCORE = 0.4

PAIRS = (*LIMBS, (2, 16), (5, 17))
"""Limbs to look for. The last two, shoulder to ear, are not drawn and begin no person."""
FIELDS = (12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26)
"""First of the two channels, x and y, that hold each pair's part affinity field."""


def load_detector(device: str, files: Mapping[str, Path]) -> Detector:
    """The networks of hands and faces are loaded when they are first asked for."""
    from cnctl_conditions.shared.hands_and_faces import load_details

    maps_of = load_network_maps(device, files["body"])
    details_of = cache(partial(load_details, device, files))

    def detect(image: Image, *, hands: bool, faces: bool, **drawing: Any) -> Detection | None:
        people = find_people(*maps_of(image))
        look = details_of(hands=hands, faces=faces)
        details = [look(image, person) for person in people]
        return pose_detection(people, image.shape[:2], details=details, **drawing)

    return detect


def pose_detection(
    people: Sequence[Person],
    size: tuple[int, ...],
    *,
    min_keypoints: float,
    style: str,
    stick_width: int,
    details: Sequence[Mapping[str, Person]] = (),
) -> Detection | None:
    """The drawing and the JSON of these people; None where nobody shows enough points.

    size: (height, width), in whose pixels the points are. details: of each person the points of
    hands and face, by their names in JSON.
    """
    if not enough_points(people, min_keypoints):
        return None
    data = to_json(people, width=size[1], height=size[0], details=details)
    return Detection(hint=draw_pose(data, style=style, thickness=stick_width), data=data)


def from_maps(
    maps: Mapping[str, Any], *, min_keypoints: float, style: str, stick_width: int, **_: float
) -> Hint | None:
    """The drawing of a renderer's people."""
    people = [[(float(x), float(y), 1.0) for x, y in person] for person in maps["people"]]
    found = pose_detection(
        people,
        maps["image"].shape[:2],
        min_keypoints=min_keypoints,
        style=style,
        stick_width=stick_width,
    )
    return None if found is None else found.hint


def load_network_maps(device: str, path: Path) -> Maps:
    """Image -> heat (H, W, 18) of the points, affinity fields (H, W, 38), at the image's size."""
    import numpy as np
    import torch

    from cnctl_conditions.shared.networks import import_network
    from cnctl_conditions.shared.openpose_networks import load_openpose, resize, run

    network = load_openpose(import_network("open_pose.model", "bodypose_model"), path, device)

    def maps_of(image: Image) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        scale = NETWORK_HEIGHT / height
        small = resize(image, max(1, int(width * scale)), max(1, int(height * scale)))
        rows, columns = -small.shape[0] % STRIDE, -small.shape[1] % STRIDE
        padded = np.pad(small, ((0, rows), (0, columns), (0, 0)), constant_values=PADDING)
        fields, heat = run(network, padded, device)
        full = []
        for channel in torch.cat([heat[0, :POINTS], fields[0]]).cpu().numpy():
            grown = resize(channel, padded.shape[1], padded.shape[0])
            full.append(resize(grown[: small.shape[0], : small.shape[1]], width, height))
        maps = np.stack(full, axis=2)
        return maps[..., :POINTS], maps[..., POINTS:]

    return maps_of


def find_people(heat: np.ndarray, fields: np.ndarray) -> list[Person]:
    """People in the maps of the network, heat (H, W, 18) and fields (H, W, 38)."""
    peaks = [find_peaks(heat[..., part]) for part in range(POINTS)]
    people: list[_Person] = []
    for number, (start, end) in enumerate(PAIRS):
        channel = FIELDS[number]
        limbs = find_limbs(peaks[start], peaks[end], fields[..., channel : channel + 2])
        for a, b, score in limbs:
            ends = _Ends(start, a, peaks[start][a][2], end, b, peaks[end][b][2], score)
            _add_limb(people, ends, may_begin=number < len(LIMBS))
    whole = [p for p in people if len(p.parts) >= LEAST_POINTS and p.score >= p.least_score]
    return [
        [tuple(peaks[part][p.parts[part]]) if part in p.parts else None for part in range(POINTS)]
        for p in whole
    ]


def find_peaks(heat: np.ndarray) -> np.ndarray:
    """(N, 3): x, y and height of the map's maxima, found on the map blurred by sigma 3."""
    import cv2
    import numpy as np

    blurred = cv2.GaussianBlur(
        heat.astype(np.float64), (25, 25), 3.0, borderType=cv2.BORDER_REFLECT
    )
    highest = cv2.dilate(blurred, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    y, x = np.nonzero((blurred >= highest) & (blurred > PEAK))
    return np.stack([x, y, heat[y, x]], axis=1).astype(np.float64)


def find_limbs(
    starts: np.ndarray, ends: np.ndarray, field: np.ndarray
) -> list[tuple[int, int, float]]:
    """(start, end, score) of the limbs that the affinity field supports, each end used once.

    The field (H, W, 2) is read at ten places between two ends; eight must agree with the way.
    """
    import numpy as np

    height = field.shape[0]
    candidates = []
    for a, start in enumerate(starts):
        for b, end in enumerate(ends):
            way = end[:2] - start[:2]
            length = max(0.001, float(np.hypot(*way)))
            x, y = np.round(np.linspace(start[:2], end[:2], SAMPLES)).astype(int).T
            along = field[y, x] @ (way / length)
            score = float(along.mean()) + min(0.5 * height / length - 1, 0)
            if np.count_nonzero(along > AFFINITY) > PASSING * SAMPLES and score > 0:
                candidates.append((score, a, b))
    chosen: list[tuple[int, int, float]] = []
    for score, a, b in sorted(candidates, key=lambda c: -c[0]):
        if all(a != used[0] and b != used[1] for used in chosen):
            chosen.append((a, b, score))
    return chosen


@dataclass(frozen=True)
class _Ends:
    """A limb: which part and which of its peaks at either end, the peaks' heights, its score."""

    start: int
    start_peak: int
    start_height: float
    end: int
    end_peak: int
    end_height: float
    score: float


@dataclass
class _Person:
    parts: dict[int, int] = field(default_factory=dict)
    """part -> which of its peaks."""
    score: float = 0.0

    @property
    def least_score(self) -> float:
        return LEAST_SCORE * len(self.parts)


def _add_limb(people: list[_Person], ends: _Ends, *, may_begin: bool) -> None:
    """Add the limb to who has one of its ends, join two people who share it, or begin a new one."""
    owners = [
        person
        for person in people
        if person.parts.get(ends.start) == ends.start_peak
        or person.parts.get(ends.end) == ends.end_peak
    ][:2]
    if len(owners) == 2 and not owners[0].parts.keys() & owners[1].parts.keys():
        owners[0].parts |= owners[1].parts
        owners[0].score += owners[1].score + ends.score
        people.remove(owners[1])
    elif owners:
        if owners[0].parts.get(ends.end) != ends.end_peak:
            owners[0].parts[ends.end] = ends.end_peak
            owners[0].score += ends.end_height + ends.score
    elif may_begin:
        parts = {ends.start: ends.start_peak, ends.end: ends.end_peak}
        people.append(_Person(parts, ends.start_height + ends.end_height + ends.score))


def thirty_percent(rng: np.random.Generator) -> dict[str, OptionValue]:
    """The paper's rule for its data: 30 % of the key points of a whole body."""
    return {"min_keypoints": 0.3}


POSE_OPTIONS = {
    "min_keypoints": Option(
        0.0, "least share of points that one person must show", minimum=0.0, maximum=1.0
    ),
    "style": Option("1.1", "version of ControlNet to draw for", choices=STYLES),
    "stick_width": Option(4, "half the width of limbs, in pixels", minimum=1, maximum=64),
}
POSE_BASE = "stabilityai/stable-diffusion-2-1"
_research = partial(
    annotator,
    licence="OpenPose: academic or non-profit, non-commercial research use only",
    commercial=False,
)

openpose = Condition(
    name="openpose",
    summary="People's poses by OpenPose (not for commercial use)",
    load_detector=load_detector,
    files={
        "body": _research(
            "body_pose_model.pth",
            sha256="25a948c16078b0f08e236bda51a385d855ef4c153598947c28c0d47ed94bb746",
            size=209_000_000,
        ),
        "hand": _research(
            "hand_pose_model.pth",
            sha256="b76b00d1750901abd07b9f9d8c98cc3385b8fe834a26d4b4f0aad439e75fc600",
            size=147_000_000,
        ),
        "face": _research(
            "facenet.pth",
            sha256="8beb52e548624ffcc4aed12af7aee7dcbfaeea420c75609fee999fe7add79d43",
            size=154_000_000,
        ),
    },
    options={
        **POSE_OPTIONS,
        "hands": Option(False, "look for hands too"),
        "faces": Option(False, "look for faces too"),
    },
    training_options=thirty_percent,
    draw=draw_pose,
    flip=None,  # left and right limbs have colours of their own, blended where they cross
    from_maps=from_maps,
    train=TrainDefaults(
        recipe="200k pose-image-caption pairs from the internet, images in which a human shows at "
        "least 30 % of the key points; 300 A100 80G GPU-hours",
    ),
    metric="pck",
    base=POSE_BASE,
    licence="OpenPose, non-commercial research use only",
    references=(
        SECTION,
        "Cao et al.: OpenPose: Realtime Multi-Person 2D Pose Estimation using Part Affinity "
        "Fields, IEEE TPAMI 43(1), 2021",
    ),
)
