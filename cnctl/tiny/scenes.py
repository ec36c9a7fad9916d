"""Captioned scenes with exact maps, drawn by a program: what the tiny base is trained on."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cnctl.tiny.canvas import Array, Canvas, Colour, smooth_noise
from cnctl.tiny.captions import Backdrop, describe
from cnctl.tiny.shapes import CLASSES, COLOURS, DARK, KINDS, Toy, mixed

LABELS: dict[str, int] = {"background": 0, **{name: i + 1 for i, name in enumerate(CLASSES)}}
LABELS |= {"sky": 17, "grass": 18, "sand": 19, "earth": 20, "sea": 21, "wall": 22, "floor": 23}
GROUNDS = {"grass": "grass", "night": "grass", "beach": "sand", "sea": "sea"}
"""The label of a land's ground, where it is not "earth"."""
HELD_OUT = 10_000_000  # seeds from here on are never trained on
STREAM = 20230210  # names our random stream; other users of the same seed draw other numbers
ADE20K_WORDS = {
    "background": "wall",
    **dict.fromkeys(("cat", "dog", "fish", "bird"), "animal"),
    "cup": "glass",
    "star": "plaything",
    "heart": "plaything",
    "sun": "light",
}
"""What ADE20K calls a label, where it has another word."""
NAMES = tuple(ADE20K_WORDS.get(name, name) for name in LABELS)
NOVICE, USUAL, FULL, CROWD = 0, 1, 2, 3  # levels of the curriculum
ROWS = {1: (0.40, 0.60, 0.0), 2: (0.24, 0.30, 0.46), 3: (0.16, 0.19, 0.33)}
"""Number of things -> where the first one's middle may be, and how far apart they are."""


class SceneObject(NamedTuple):
    """One thing in a scene: its class, its colour word, the box (left, top, right, bottom)."""

    name: str
    colour: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """A picture, what it shows, and the truth about each pixel.

    image: uint8 (H, W, 3) RGB; segmentation: uint8 (H, W), values of `LABELS`; depth: float32
    (H, W) in [0, 1], 1 is near; normals: float32 (H, W, 3), unit vectors, x right, y up, z to the
    viewer; outlines: uint8 (H, W), lines of one pixel around each visible part; keypoints: for
    each person float32 (18, 2), x and y in pixels in OpenPose's order.
    """

    image: NDArray[np.uint8]
    prompt: str
    segmentation: NDArray[np.uint8]
    depth: Array
    normals: Array
    outlines: NDArray[np.uint8]
    keypoints: tuple[Array, ...]
    objects: tuple[SceneObject, ...]
    backdrop: Backdrop


class Planned(NamedTuple):
    name: str
    colour: str
    said_colour: str | None
    centre: tuple[float, float]  # in sides of the picture
    radius: float


class Land(NamedTuple):
    """Colours of a landscape: the sky above, the sky at the horizon, the ground."""

    top: Colour
    low: Colour
    ground: Colour


LANDS = {
    "grass": Land((104, 176, 240), (206, 232, 250), (112, 186, 84)),
    "beach": Land((90, 190, 246), (206, 238, 252), (240, 220, 164)),
    "snow": Land((160, 196, 232), (224, 236, 246), (246, 248, 252)),
    "sea": Land((128, 196, 242), (220, 238, 248), (48, 122, 190)),
    "night": Land((20, 24, 62), (64, 66, 128), (44, 76, 62)),
    "sunset": Land((122, 84, 160), (254, 172, 96), (112, 84, 76)),
}


def render_scene(
    seed: int, *, size: int = 128, level: int = USUAL, show: str | None = None
) -> Scene:
    """Draw the scene of a seed: a pure function of its arguments. `show` is the class to draw.

    Levels: 0, one large thing before a plain or gradient background; 1, also landscapes and
    rooms; 2, also smaller things and sometimes two of them; 3, always three.
    """
    rng = np.random.default_rng([STREAM, level, seed])
    things, backdrop = plan(rng, level, show)
    light = np.array([rng.uniform(-0.6, 0.6), rng.uniform(0.35, 0.7), 1.0], np.float32)
    canvas = Canvas(size, light / np.linalg.norm(light))
    paint_backdrop(canvas, backdrop, rng)
    painted = [paint_thing(canvas, thing, backdrop, rng) for thing in things]
    texture = 1 + 0.012 * smooth_noise(rng, size, 9)[..., None]
    image = np.clip(canvas.image * texture + 0.5, 0, 255).astype(np.uint8)
    prompt = describe(rng, [(t.name, t.said_colour) for t in things], backdrop)
    keypoints = tuple(joints for _, joints in painted if joints is not None)
    objects = tuple(thing for thing, _ in painted)
    maps = canvas.segmentation, np.clip(canvas.depth, 0, 1), canvas.normals, canvas.outlines
    return Scene(image, prompt, *maps, keypoints, objects, backdrop)


def exact_maps(scene: Scene) -> dict[str, Any]:
    """What the renderer knows, in the form that `cnctl.plugin.Condition.from_maps` takes."""
    return {
        "image": scene.image,
        "depth": scene.depth,
        "normals": scene.normals,
        "labels": scene.segmentation,
        "names": NAMES,
        "edges": soft_edges(scene.outlines),
        "people": np.stack(scene.keypoints) if scene.keypoints else np.zeros((0, 18, 2)),
    }


def soft_edges(lines: NDArray[np.uint8]) -> Array:
    """White lines on black, uint8 (H, W), as an edge detector draws them: float32 in [0, 1]."""
    soft = cv2.GaussianBlur(lines.astype(np.float32), (0, 0), len(lines) / 128)
    return soft / max(float(soft.max()), 1.0)


def plan(rng: np.random.Generator, level: int, show: str | None) -> tuple[list[Planned], Backdrop]:
    """Choose what a scene shows, before anything is drawn."""
    count = 3 if level >= CROWD else 2 if level == FULL and rng.random() < 0.4 else 1
    names = [CLASSES[i] for i in rng.choice(len(CLASSES), count, replace=False)]
    if show is not None:
        names[0] = show
    colours = [choose_colour(rng, name) for name in names]
    backdrop = choose_backdrop(rng, names, [word for word, _ in colours], level)
    things = []
    for index, (name, (colour, said)) in enumerate(zip(names, colours, strict=True)):
        low, high, apart = ROWS[count]
        x = rng.uniform(low, high) + apart * index
        radius = choose_radius(rng, level, count)
        things.append(Planned(name, colour, said, (x, rng.uniform(0.42, 0.58)), radius))
    return things, backdrop


def choose_radius(rng: np.random.Generator, level: int, count: int) -> float:
    """Half the side of a thing's square, in sides of the picture."""
    if count > 1:
        return float(rng.uniform(0.19, 0.24) if count == 2 else rng.uniform(0.12, 0.15))
    return float(rng.uniform(0.24, 0.42) if level >= FULL else rng.uniform(0.33, 0.43))


def choose_colour(rng: np.random.Generator, name: str) -> tuple[str, str | None]:
    """A colour word, and the word to say, which is None only for a colour it has by nature."""
    natural = KINDS[name].natural
    if rng.random() < 0.45:
        colour = natural[rng.integers(len(natural))]
        return colour, colour if rng.random() < 0.4 else None
    colour = list(COLOURS)[rng.integers(len(COLOURS))]
    return colour, colour


def choose_backdrop(
    rng: np.random.Generator, names: list[str], taken: list[str], level: int
) -> Backdrop:
    """A background whose colours are not those of the things."""
    free = [colour for colour in COLOURS if colour not in taken]
    first, second = (free[i] for i in rng.choice(len(free), 2, replace=False))
    draw = rng.random()
    if draw < (0.75 if level == NOVICE else 0.40):
        return Backdrop("plain", (first,))
    if draw < (1.0 if level == NOVICE else 0.50):
        return Backdrop("gradient", (first, second))
    places = KINDS[names[0]].places
    if draw > 0.93:
        places = (*LANDS, "room")
    return Backdrop(places[rng.integers(len(places))], (first,))


def paint_backdrop(canvas: Canvas, backdrop: Backdrop, rng: np.random.Generator) -> None:
    """Paint what lies behind, with its maps."""
    if backdrop.kind in LANDS:
        paint_land(canvas, backdrop.kind, rng)
    elif backdrop.kind == "room":
        paint_room(canvas, backdrop.colours[0], rng)
    else:
        paint_plain(canvas, backdrop.colours, rng)


def paint_plain(canvas: Canvas, colours: tuple[str, ...], rng: np.random.Generator) -> None:
    """One colour, or two that change into each other, with a soft light."""
    first, last = soft_colour(colours[0], rng), soft_colour(colours[-1], rng)
    ramp = np.linspace(0, 1, canvas.size, dtype=np.float32)
    along = ramp[:, None] if rng.random() < 0.6 else ramp[None, :]
    share = np.broadcast_to(along, (canvas.size, canvas.size))[..., None]
    canvas.image[:] = first + (last - first) * share
    offset = rng.uniform(0.3, 0.7)
    glow = 1.06 - 0.28 * ((ramp[:, None] - 0.4) ** 2 + (ramp[None] - offset) ** 2)
    canvas.image *= glow[..., None]


def paint_land(canvas: Canvas, kind: str, rng: np.random.Generator) -> None:
    """Sky above ground, with clouds, stars or waves."""
    size, land = canvas.size, LANDS[kind]
    horizon = int(rng.uniform(0.5, 0.68) * size)
    top, low, ground = (jittered(colour, rng, 6) for colour in land)
    ramp = np.linspace(0, 1, horizon, dtype=np.float32)[:, None, None]
    canvas.image[:horizon] = top + (low - top) * ramp
    below = np.linspace(0, 1, size - horizon, dtype=np.float32)[:, None]
    canvas.image[horizon:] = ground * (1.04 - 0.16 * below[..., None])
    canvas.segmentation[:horizon] = LABELS["sky"]
    canvas.segmentation[horizon:] = LABELS[GROUNDS.get(kind, "earth")]
    canvas.depth[horizon:] = 0.08 + 0.62 * below
    canvas.normals[horizon:] = (0, 0.95, np.sqrt(1 - 0.95**2))
    canvas.trace(np.array([(0, horizon), (size, horizon)]), closed=False)
    if kind == "night":
        paint_stars(canvas, horizon, rng)
    elif kind == "sea":
        paint_waves(canvas, horizon, rng)
    elif rng.random() < 0.5:
        paint_clouds(canvas, horizon, rng)


def paint_stars(canvas: Canvas, horizon: int, rng: np.random.Generator) -> None:
    """A few bright dots in the sky."""
    for _ in range(int(rng.integers(6, 12))):
        spot = (int(rng.uniform(0, canvas.size)), int(rng.uniform(0, horizon)))
        cv2.circle(canvas.image, spot, max(1, canvas.size // 100), (244, 238, 200), -1, cv2.LINE_AA)


def paint_waves(canvas: Canvas, horizon: int, rng: np.random.Generator) -> None:
    """Pale strokes on the water."""
    for _ in range(int(rng.integers(5, 9))):
        x, y = rng.uniform(0, canvas.size), rng.uniform(horizon + 4, canvas.size)
        reach = rng.uniform(0.04, 0.09) * canvas.size
        ends = (int(x - reach), int(y)), (int(x + reach), int(y))
        cv2.line(canvas.image, *ends, (120, 180, 226), max(1, canvas.size // 64), cv2.LINE_AA)


def paint_clouds(canvas: Canvas, horizon: int, rng: np.random.Generator) -> None:
    """One or two white clouds."""
    for _ in range(int(rng.integers(1, 3))):
        x, y = rng.uniform(0.08, 0.92) * canvas.size, rng.uniform(0.1, 0.45) * horizon
        width = rng.uniform(0.06, 0.1) * canvas.size
        for step, share in ((-1, 0.65), (0, 1.0), (1, 0.7)):
            axes = int(1.1 * share * width), int(0.65 * share * width)
            spot = (int(x + step * width), int(y))
            cv2.ellipse(canvas.image, spot, axes, 0, 0, 360, (250, 250, 252), -1, cv2.LINE_AA)


def paint_room(canvas: Canvas, colour: str, rng: np.random.Generator) -> None:
    """A wall in a colour above a wooden floor."""
    size = canvas.size
    horizon = int(rng.uniform(0.6, 0.72) * size)
    wall, floor = soft_colour(colour, rng), jittered((186, 138, 94), rng, 10)
    canvas.image[:horizon] = wall
    below = np.linspace(0, 1, size - horizon, dtype=np.float32)[:, None]
    canvas.image[horizon:] = floor * (0.88 + 0.18 * below[..., None])
    board = max(1, size // 40)
    canvas.image[horizon - board : horizon + board] = (244, 238, 226)
    canvas.segmentation[:horizon], canvas.segmentation[horizon:] = LABELS["wall"], LABELS["floor"]
    canvas.depth[:horizon] = 0.12
    canvas.depth[horizon:] = 0.12 + 0.58 * below
    canvas.normals[horizon:] = (0, 0.95, np.sqrt(1 - 0.95**2))
    for edge in (horizon - board, horizon + board):
        canvas.trace(np.array([(0, edge), (size, edge)]), closed=False)


def paint_thing(
    canvas: Canvas, thing: Planned, backdrop: Backdrop, rng: np.random.Generator
) -> tuple[SceneObject, Array | None]:
    """Paint one thing; return where it is and the joints of a person in pixels."""
    toy = KINDS[thing.name].build(colour_of(thing.colour, rng), rng)
    scale = thing.radius * canvas.size
    x, y = (share * canvas.size for share in thing.centre)
    if backdrop.kind not in ("plain", "gradient") and not KINDS[thing.name].floats:
        y = min(0.62 * canvas.size, 0.95 * canvas.size - scale)
        canvas.shadow((x, y + 0.92 * scale), (0.85 * scale, 0.16 * scale))
    paint_toy(canvas, toy, thing, (x, y))
    box = (x - scale, y - scale, x + scale, y + scale)
    joints = None if toy.joints is None else (toy.joints * scale + (x, y)).astype(np.float32)
    return SceneObject(thing.name, thing.colour, box), joints


def paint_toy(canvas: Canvas, toy: Toy, thing: Planned, centre: tuple[float, float]) -> None:
    """Outline first, so that only the silhouette keeps it, then the parts from back to front."""
    scale = thing.radius * canvas.size
    rim = max(1, round(canvas.size / 40))
    placed = [(part, part.polygon * scale + centre) for part in toy.parts]
    for part, polygon in placed:
        if part.outlined:
            canvas.outline(polygon, mixed(part.colour, DARK, 0.72), rim)
    near = 0.6 + 0.25 * thing.radius
    for part, polygon in placed:
        canvas.paint(polygon, part.colour, bulge=part.bulge, label=LABELS[thing.name], near=near)


def colour_of(word: str, rng: np.random.Generator) -> Colour:
    """A shade near the named colour; the exact one for yellow's special cases stays near too."""
    red, green, blue = jittered(COLOURS[word], rng, 7).tolist()
    return red, green, blue


def soft_colour(word: str, rng: np.random.Generator) -> Array:
    """The named colour as a background wears it: a little paler."""
    paler = 0.0 if word in ("black", "brown", "white") else 0.28
    return jittered(mixed(COLOURS[word], (255, 255, 255), paler), rng, 7)


def jittered(colour: Colour, rng: np.random.Generator, spread: float) -> Array:
    """The colour, float32 (3,), with noise of that standard deviation on each channel."""
    noisy = np.asarray(colour, np.float32) + rng.normal(0, spread, 3)
    return np.clip(noisy, 6, 252).astype(np.float32)
