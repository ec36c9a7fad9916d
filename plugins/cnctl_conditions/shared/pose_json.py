"""The JSON of poses, as pose editors of today and of 2023, and OpenPose itself, write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnctl.plugin import CnctlError

if TYPE_CHECKING:
    Person = Sequence["tuple[float, float, float] | None"]
    """Points as (x, y, confidence) in pixels, None where a point is hidden."""

POINTS = 18
HAND_POINTS = 21
BODY = "pose_keypoints_2d"
PARTS = {
    BODY: POINTS,
    "hand_left_keypoints_2d": HAND_POINTS,
    "hand_right_keypoints_2d": HAND_POINTS,
    "face_keypoints_2d": None,
}
"""The parts of a person, and how many points each has; None for any number."""
FROM_BODY_25 = (*range(8), *range(9, 19))
"""The 18 points among OpenPose's 25, which have the middle of the hips and the feet too."""


@dataclass(frozen=True)
class PoseDocument:
    """People, each with the points of its parts by their names, on a canvas of this size."""

    width: Any
    height: Any
    people: Sequence[Mapping[str, Person]]


def read_pose(data: Any) -> PoseDocument:
    """The people of a JSON document, in pixels. CnctlError where it is none or names no canvas.

    Coordinates are pixels, or shares of width and height, where all that are seen are near [0, 1].
    Of a list the first document is read. 25 points are OpenPose's BODY_25.
    """
    document = data[0] if isinstance(data, list) and data else data
    if not isinstance(document, Mapping):
        raise CnctlError("this is not the JSON of a pose", hint="give an object with 'people'")
    width, height = (_side(document, name) for name in ("width", "height"))
    people = [{part: _points(person, part) for part in PARTS} for person in _people(document)]
    seen = [point for person in people for points in person.values() for point in points if point]
    if seen and all(-1 <= value <= 2 for x, y, _ in seen for value in (x, y)):
        people = [
            {part: _scaled(points, width, height) for part, points in person.items()}
            for person in people
        ]
    return PoseDocument(width, height, people)


def to_json(
    people: Sequence[Person],
    *,
    width: int,
    height: int,
    details: Sequence[Mapping[str, Person]] = (),
) -> dict[str, Any]:
    """As pose editors write it: x, y, confidence in a row, pixels, zeros where hidden.

    details: of each person the points of hands and face, by their names there.
    """
    named = [{"pose_keypoints_2d": person} for person in people]
    for person, more in zip(named, details, strict=False):
        person.update(more)
    return {
        "canvas_width": width,
        "canvas_height": height,
        "people": [{key: _flat(points) for key, points in p.items()} for p in named],
    }


def triples(flat: Sequence[float]) -> list[Sequence[float]]:
    """x, y, confidence of each point, which JSON has in one row."""
    return [flat[i : i + 3] for i in range(0, len(flat), 3)]


def _side(document: Mapping[str, Any], name: str) -> Any:
    for key in (f"canvas_{name}", name):
        if key in document:
            return document[key]
    raise CnctlError(
        f"the pose has no canvas_{name}, so the size of its picture is not known",
        hint='add "canvas_width" and "canvas_height" to the JSON: the size in pixels of the '
        "picture that the pose is from",
    )


def _people(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The people of a document; the first editors wrote a list of [x, y], 18 for each of them."""
    if "keypoints" not in document:
        return document.get("people") or []
    rows = [point for part in document["keypoints"] for point in _rows(part)]
    if len(rows) % POINTS:
        raise CnctlError(
            f"keypoints has {len(rows)} points, not a multiple of {POINTS}",
            hint="18 points [x, y] for each person",
        )
    flat = [[value for x, y in rows[i : i + POINTS] for value in (x, y, 1)]
            for i in range(0, len(rows), POINTS)]  # fmt: skip
    return [{BODY: person} for person in flat]


def _rows(part: Any) -> list[Any]:
    """The points of one person, or one point."""
    return part if part and isinstance(part[0], list) else [part]


def _points(person: Mapping[str, Any], part: str) -> Person:
    """The points under this name; [] where there are none."""
    flat = [float(value) for value in person.get(part) or []]
    count = PARTS[part]
    rows = triples(flat)
    if part == BODY and len(flat) == 3 * 25:
        rows = [rows[index] for index in FROM_BODY_25]
    elif len(flat) % 3 or (flat and count and len(rows) != count):
        raise CnctlError(
            f"{part} has {len(flat)} numbers, not {3 * count if count else 'a multiple of 3'}",
            hint="x, y, confidence for each point; zeros where it is hidden",
        )
    return [(x, y, seen) if seen > 0 else None for x, y, seen in rows]


def _scaled(points: Person, width: float, height: float) -> Person:
    return [point and (point[0] * width, point[1] * height, point[2]) for point in points]


def _flat(person: Person) -> list[float]:
    return [round(float(value), 3) for point in person for value in point or (0, 0, 0)]
