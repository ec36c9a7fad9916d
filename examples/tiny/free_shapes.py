"""Pictures of nothing in particular, to train ControlNets that follow lines which are not a toy's.

A picture is a backdrop under layers of shapes, which differ in how they are filled and outlined:
occluding discs whose sizes follow a power law ("dead leaves", the edge statistics of
photographs: Lee, Mumford, Huang, 2001), contours of smooth noise, splines, strokes, text, grids.
The drawings of tests/benchmarks/drawings.py, which measure the result, are drawn by other code.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from cnctl.tiny.canvas import Array, smooth_noise

SIZE, FINE = 128, 2
"""Pixels of a picture, and how many times finer it is drawn."""
SIDE = SIZE * FINE
STREAM = 20010101
"""Names the random stream."""
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
SIGNS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&?!"


def free_picture(seed: int) -> NDArray[np.uint8]:
    """A picture of a seed, RGB uint8 (128, 128, 3)."""
    rng = np.random.default_rng([STREAM, seed])
    picture = backdrop(rng)
    layers = list(LAYERS)
    for index in rng.choice(len(layers), size=rng.integers(1, 3), p=SHARES):
        layers[index](picture, rng)
    small = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.3:
        small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.4, 1.0))
    if rng.random() < 0.4:
        small += rng.normal(0, rng.uniform(1, 5), (SIZE, SIZE, 1)).astype(np.float32)
    return np.clip(small + 0.5, 0, 255).astype(np.uint8)


def backdrop(rng: np.random.Generator) -> Array:
    """One colour, or one that turns into another."""
    first, second = colour(rng), colour(rng)
    picture = np.full((SIDE, SIDE, 3), first, np.float32)
    if rng.random() < 0.4:
        direction = rng.normal(size=2)
        direction /= np.linalg.norm(direction)
        rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
        share = 0.5 + 0.7 * (direction[0] * rows + direction[1] * columns)
        picture += np.clip(share, 0, 1)[..., None].astype(np.float32) * (second - first)
    return picture


def leaves(picture: Array, rng: np.random.Generator) -> None:
    """Discs, ellipses and polygons over one another, small ones more often than large ones."""
    smallest, largest = rng.uniform(0.02, 0.08), rng.uniform(0.2, 0.5)
    outline = pen(rng) if rng.random() < 0.3 else None
    for _ in range(rng.integers(8, 70)):
        inverse = rng.uniform(largest**-2, smallest**-2)  # of the area: a density of radius**-3
        radius = inverse**-0.5 * SIDE
        corners = rng.integers(3, 9)
        smooth = rng.random() < 0.5
        points = ring(rng, rng.uniform(0, SIDE, 2), radius, 40 if smooth else int(corners), 0.0)
        fill(picture, points, rng)
        if outline is not None:
            stroke(picture, points, outline, closed=True)


def contours(picture: Array, rng: np.random.Generator) -> None:
    """The levels of smooth noise, each in a colour, some with a line between them."""
    cells = int(rng.integers(3, 10))
    noise = cv2.resize(smooth_noise(rng, SIZE, cells), (SIDE, SIDE))
    levels = np.quantile(noise, np.sort(rng.uniform(0.1, 0.9, rng.integers(1, 4))))
    outline = pen(rng) if rng.random() < 0.5 else None
    for level in levels:
        mask = (noise > level).astype(np.uint8)
        if rng.random() < 0.8:
            picture[mask > 0] = shaded(rng, picture.shape)[mask > 0]
        if outline is not None:
            for line in cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]:
                if len(line) > 40:
                    stroke(picture, line[:, 0].astype(np.float32), outline, closed=True)


def outlines(picture: Array, rng: np.random.Generator) -> None:
    """Closed curves through random points, filled or empty, with a line around most."""
    for _ in range(rng.integers(1, 7)):
        radius = rng.uniform(0.08, 0.4) * SIDE
        middle = rng.uniform(0.1, 0.9, 2) * SIDE
        points = spline(ring(rng, middle, radius, int(rng.integers(4, 12)), rng.uniform(0, 0.45)))
        if rng.random() < 0.7:
            fill(picture, points, rng)
        if rng.random() < 0.75:
            stroke(picture, points, pen(rng), closed=True)


def strokes(picture: Array, rng: np.random.Generator) -> None:
    """Open curves and straight lines, some broken, some in bundles."""
    drawn = pen(rng)
    for _ in range(rng.integers(2, 9)):
        points = rng.uniform(0.02, 0.98, (int(rng.integers(2, 6)), 2)) * SIDE
        if len(points) > 2:
            points = spline(points, closed=False)
        else:
            points = np.linspace(points[0], points[1], 40)
        shift = rng.normal(0, 8, 2)
        for copy in range(1 if rng.random() < 0.7 else int(rng.integers(2, 8))):
            moved = (points + copy * shift).astype(np.float32)
            broken = rng.random() < 0.35
            pieces = [moved] if not broken else np.array_split(moved, rng.integers(3, 9))
            for piece in pieces:
                if not broken or rng.random() < 0.75:
                    stroke(picture, piece, drawn, closed=False)
        if rng.random() < 0.4:
            drawn = pen(rng)


def text(picture: Array, rng: np.random.Generator) -> None:
    """A few letters, large or small, upright or turned."""
    for _ in range(rng.integers(1, 4)):
        word = "".join(rng.choice(list(SIGNS), rng.integers(1, 6)))
        scale, width = rng.uniform(1.2, 7), int(rng.integers(2, 16))
        mask = np.zeros((SIDE, SIDE), np.uint8)
        place = (rng.uniform(-0.05, 0.6, 2) * SIDE + [0, 0.35 * SIDE]).astype(int).tolist()
        font = FONTS[rng.integers(len(FONTS))]
        cv2.putText(mask, word, place, font, scale, 255, width, cv2.LINE_AA)
        turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.normal(0, 25), 1.0)
        mask = cv2.warpAffine(mask, turn, (SIDE, SIDE))
        blend(picture, mask, colour(rng))


def grids(picture: Array, rng: np.random.Generator) -> None:
    """Bricks, tiles or bars, seen from the front or askew."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    along = np.cos(turn) * columns + np.sin(turn) * rows
    across = -np.sin(turn) * columns + np.cos(turn) * rows
    period, second = rng.uniform(16, 70, 2)
    bars = np.floor(along / period) + rng.uniform(0, 1)
    cells = np.floor((across + (bars % 2) * rng.uniform(0, second)) / second)
    table = np.stack([colour(rng) for _ in range(rng.integers(2, 6))])
    index = (bars + cells * (rng.random() < 0.6) * 3).astype(int) % len(table)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    radius = rng.uniform(0.25, 0.8) * SIDE
    points = ring(rng, rng.uniform(0, SIDE, 2), radius, int(rng.integers(3, 8)), 0.2)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255, cv2.LINE_AA)
    blend(picture, mask, table[index])


def colour(rng: np.random.Generator) -> Array:
    """Half of them greyish, as most of a photograph is."""
    grey = rng.uniform(10, 245)
    spread = 12 if rng.random() < 0.3 else 70
    return np.clip(grey + rng.normal(0, spread, 3), 5, 250).astype(np.float32)


def shaded(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A colour for each pixel: flat, turning into another, or mottled."""
    flat = np.full(shape, colour(rng), np.float32)
    kind = rng.random()
    if kind < 0.55:
        return flat
    if kind < 0.8:
        rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape[:2])
        ramp = rows[:, None] if rng.random() < 0.5 else columns[None]
        return flat + ramp[..., None] * rng.normal(0, 40, 3).astype(np.float32)
    noise = cv2.resize(smooth_noise(rng, SIZE, int(rng.integers(4, 40))), shape[1::-1])
    return flat + (noise - noise.mean())[..., None] * np.float32(rng.uniform(10, 45))


def fill(picture: Array, points: Array, rng: np.random.Generator) -> None:
    """Fill a polygon (N, 2) with a shade."""
    left, top = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(points.max(0)).astype(int) + 2, SIDE)
    if left >= right or top >= bottom:
        return
    part = picture[top:bottom, left:right]
    mask = np.zeros(part.shape[:2], np.uint8)
    corners = np.round((points - [left, top]) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, shift=4)
    blend(part, mask, shaded(rng, part.shape))


def blend(picture: Array, mask: NDArray[np.uint8], colours: Array) -> None:
    """Put colours, one or one for each pixel, where the mask is 255."""
    share = mask[..., None].astype(np.float32) / 255
    picture += share * (colours - picture)


def pen(rng: np.random.Generator) -> tuple[list[float], int]:
    """Colour and width of a line, dark ones and thin ones more often."""
    dark = rng.random() < 0.6
    shade = rng.uniform(0, 70, 3) if dark else colour(rng)
    return [float(value) for value in shade], int(rng.choice([1, 2, 2, 3, 4, 5, 7]))


def stroke(picture: Array, points: Array, drawn: tuple[list[float], int], *, closed: bool) -> None:
    """Draw a line through points (N, 2)."""
    corners = np.round(points * 16).astype(np.int32)
    shade, width = drawn
    cv2.polylines(picture, [corners], closed, shade, width, cv2.LINE_8, shift=4)


def ring(
    rng: np.random.Generator, middle: Array, radius: float, corners: int, jitter: float
) -> Array:
    """Corners (N, 2) around a middle, on a turned ellipse, moved by a share of the radius."""
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.uniform(0, 6.3)
    points = np.stack([np.cos(turn), np.sin(turn) * rng.uniform(0.35, 1)], axis=1)
    points *= 1 + jitter * rng.uniform(-1, 1, (corners, 1))
    angle = rng.uniform(0, np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (middle + radius * points @ rotation.T).astype(np.float32)


def spline(points: Array, *, closed: bool = True, steps: int = 12) -> Array:
    """The Catmull-Rom curve through points (N, 2)."""
    if closed:
        around = np.concatenate([points[-1:], points, points[:2]])
    else:
        around = np.concatenate([points[:1], points, points[-1:]])
    before, start, end, after = around[:-3], around[1:-2], around[2:-1], around[3:]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    before, start, end, after = (each[:, None] for each in (before, start, end, after))
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return curve.reshape(-1, 2).astype(np.float32)


LAYERS: dict[Callable[[Array, np.random.Generator], None], float] = {
    leaves: 0.25,
    contours: 0.2,
    outlines: 0.25,
    strokes: 0.15,
    text: 0.07,
    grids: 0.08,
}
SHARES = np.array(list(LAYERS.values()))
