"""A canvas that paints lit polygons and keeps the exact maps of what it painted."""

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]
Colour = tuple[float, float, float]
SHIFT = 4  # fractional bits of cv2 coordinates
LIGHTING = 0.62  # how much of the brightness depends on the angle to the light


class Canvas:
    """One picture with its maps, all size x size: see `Scene` for their layout."""

    def __init__(self, size: int, light: Array) -> None:
        """`light` is a unit vector to the light: x right, y up, z to the viewer."""
        self.size = size
        self.light = light
        self.image = np.zeros((size, size, 3), np.float32)
        self.segmentation = np.zeros((size, size), np.uint8)
        self.depth = np.zeros((size, size), np.float32)
        self.normals = np.zeros((size, size, 3), np.float32)
        self.normals[..., 2] = 1
        self.outlines = np.zeros((size, size), np.uint8)

    def paint(
        self, polygon: Array, colour: Colour, *, bulge: float, label: int, near: float
    ) -> None:
        """Fill a polygon of pixel coordinates (N, 2); `bulge` 0 is flat, 1 is half a ball."""
        box = self._box(polygon)
        if box is None:
            return
        rows, columns = box
        mask = self._mask(polygon, rows, columns)
        normals = bulging_normals(polygon, rows, columns, bulge)
        shade = 1 + LIGHTING * (normals @ self.light - self.light[2])
        self._blend(rows, columns, mask, np.asarray(colour, np.float32) * shade[..., None])
        inside = mask > 127
        self.segmentation[rows, columns][inside] = label
        self.normals[rows, columns][inside] = normals[inside]
        self.depth[rows, columns][inside] = (near + 0.12 * bulge * normals[..., 2])[inside]
        self.outlines[rows, columns][inside] = 0
        self.trace(polygon)

    def trace(self, polygon: Array, *, closed: bool = True) -> None:
        """Draw a line of one pixel into the map of outlines."""
        points = [np.round(polygon * 2**SHIFT).astype(np.int32)]
        cv2.polylines(self.outlines, points, closed, 255, 1, cv2.LINE_AA, SHIFT)

    def outline(self, polygon: Array, colour: Colour, width: int) -> None:
        """Stroke a polygon's border into the picture only; the maps do not change."""
        points = [np.round(polygon * 2**SHIFT).astype(np.int32)]
        cv2.polylines(self.image, points, True, colour, width, cv2.LINE_AA, SHIFT)

    def shadow(self, centre: tuple[float, float], radii: tuple[float, float]) -> None:
        """Darken a soft ellipse, in pixels."""
        reach = np.array([[-1.6, -1.6], [1.6, 1.6]]) * radii + centre
        box = self._box(reach)
        if box is None:
            return
        rows, columns = box
        x = (np.arange(columns.start, columns.stop) - centre[0]) / radii[0]
        y = (np.arange(rows.start, rows.stop) - centre[1]) / radii[1]
        fade = 1 - 0.38 * np.exp(-1.5 * (x[None] ** 2 + y[:, None] ** 2))
        self.image[rows, columns] *= fade.astype(np.float32)[..., None]

    def _blend(self, rows: slice, columns: slice, mask: NDArray[np.uint8], colour: Array) -> None:
        view = self.image[rows, columns]
        view += (colour - view) * (mask * np.float32(1 / 255))[..., None]

    def _box(self, polygon: Array) -> tuple[slice, slice] | None:
        low = np.maximum(np.floor(polygon.min(0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(polygon.max(0)).astype(int) + 2, self.size)
        if (high <= low).any():
            return None
        return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))

    def _mask(self, polygon: Array, rows: slice, columns: slice) -> NDArray[np.uint8]:
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        local = polygon - (columns.start, rows.start)
        cv2.fillPoly(mask, [np.round(local * 2**SHIFT).astype(np.int32)], 255, cv2.LINE_AA, SHIFT)
        return mask


def bulging_normals(polygon: Array, rows: slice, columns: slice, bulge: float) -> Array:
    """Unit normals (h, w, 3) of a cushion over the polygon's bounding box."""
    low, high = polygon.min(0), polygon.max(0)
    centre, radius = (low + high) / 2, np.maximum((high - low) / 2, 1.0)
    x = (np.arange(columns.start, columns.stop) - centre[0]) / radius[0]
    y = (np.arange(rows.start, rows.stop) - centre[1]) / radius[1]
    normals = np.empty((len(y), len(x), 3), np.float32)
    normals[..., 0] = np.clip(x, -1, 1)[None] * (0.85 * bulge)
    normals[..., 1] = -np.clip(y, -1, 1)[:, None] * (0.85 * bulge)
    flat = normals[..., 0] ** 2 + normals[..., 1] ** 2
    normals[..., :2] *= np.sqrt(np.minimum(1, 0.9 / np.maximum(flat, 1e-6)))[..., None]
    normals[..., 2] = np.sqrt(1 - np.minimum(flat, 0.9))
    return normals


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """Noise (size, size) of about unit variance that changes over size / cells pixels."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def ellipse(
    x: float, y: float, rx: float, ry: float, *, turn: float = 0.0, points: int = 30
) -> Array:
    """A polygon (points, 2) around (x, y), turned clockwise by `turn` radians."""
    angle = np.linspace(0, 2 * math.pi, points, endpoint=False)
    around = np.stack([rx * np.cos(angle), ry * np.sin(angle)], 1)
    return turned(around, turn) + np.array([x, y])


def rectangle(left: float, top: float, right: float, bottom: float) -> Array:
    """A polygon (4, 2)."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def rounded(left: float, top: float, right: float, bottom: float, radius: float) -> Array:
    """A rectangle with round corners, a polygon (24, 2)."""
    corners = [(right, bottom, 0), (left, bottom, 1), (left, top, 2), (right, top, 3)]
    arcs = []
    for x, y, quarter in corners:
        angle = (quarter + np.linspace(0, 1, 6)) * math.pi / 2
        middle_x = x - radius if x == right else x + radius
        middle_y = y - radius if y == bottom else y + radius
        arcs.append(
            np.stack([middle_x + radius * np.cos(angle), middle_y + radius * np.sin(angle)], 1)
        )
    return np.concatenate(arcs)


def capsule(
    start: ArrayLike, end: ArrayLike, width: float, end_width: float | None = None
) -> Array:
    """A limb with round ends from one point to another, a polygon (16, 2)."""
    first, last = np.asarray(start, np.float64), np.asarray(end, np.float64)
    end_width = width if end_width is None else end_width
    along = math.atan2(last[1] - first[1], last[0] - first[0])
    half = np.linspace(-math.pi / 2, math.pi / 2, 8)
    front, back = along + half, along + half + math.pi
    return np.concatenate(
        [
            last + end_width * np.stack([np.cos(front), np.sin(front)], 1),
            first + width * np.stack([np.cos(back), np.sin(back)], 1),
        ]
    )


def turned(points: Array, angle: float) -> Array:
    """Points (N, 2) turned clockwise about the origin (y points down)."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])
