"""The objects of a scene: toys of a few polygons each.

A builder takes (colour, rng) and returns parts from back to front, in its own square [-1, 1]^2
with y down. It draws no details finer than about 1/20 of its size, so that a small autoencoder
can keep them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnctl.tiny.canvas import Array, Colour, capsule, ellipse, rectangle, rounded, turned

COLOURS: dict[str, Colour] = {
    "red": (214, 44, 44),
    "orange": (242, 132, 30),
    "yellow": (248, 212, 44),
    "green": (52, 158, 66),
    "blue": (44, 92, 212),
    "purple": (134, 64, 178),
    "pink": (246, 138, 184),
    "brown": (128, 78, 42),
    "white": (242, 242, 240),
    "black": (40, 40, 46),
    "gray": (134, 136, 142),
    "cyan": (62, 198, 208),
}
DARK: Colour = (34, 30, 34)
CREAM: Colour = (250, 244, 230)
GLASS: Colour = (186, 224, 244)
WOOD: Colour = (122, 82, 48)
SKINS: tuple[Colour, ...] = ((246, 206, 172), (222, 164, 120), (150, 96, 62))
HAIRS: tuple[Colour, ...] = ((52, 38, 32), (120, 72, 36), (226, 180, 84))


@dataclass(frozen=True)
class Part:
    """A polygon (N, 2) with its colour; `bulge` as in `Canvas.paint`; `outlined`: on the rim."""

    polygon: Array
    colour: Colour
    bulge: float = 0.3
    outlined: bool = True


@dataclass(frozen=True)
class Toy:
    """The parts of one thing, back to front, and the joints of a person, (18, 2), or None."""

    parts: list[Part]
    joints: Array | None = None


Builder = Callable[[Colour, np.random.Generator], Toy]


def detail(polygon: Array, colour: Colour, bulge: float = 0.0) -> Part:
    """A part inside the silhouette."""
    return Part(polygon, colour, bulge, outlined=False)


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` with a share in [0, 1] of another."""
    return tuple(a + (b - a) * share for a, b in zip(colour, other, strict=True))  # type: ignore[return-value]


def accent(colour: Colour) -> Colour:
    """A colour that stands out on `colour` for noses and eyes."""
    return DARK if sum(colour) > 240 else CREAM


def mirrored(polygon: Array) -> Array:
    """The polygon on the other side of the middle line."""
    return np.asarray(polygon) * (-1, 1)


def both_sides(polygon: Array, colour: Colour, bulge: float = 0.0) -> list[Part]:
    """A detail and its mirror image."""
    return [detail(polygon, colour, bulge), detail(mirrored(polygon), colour, bulge)]


def cat(colour: Colour, rng: np.random.Generator) -> Toy:
    """A cat's face: pointed ears, slit eyes, whiskers."""
    ear = np.array([[0.86, -0.98], [0.16, -0.56], [0.84, -0.02]])
    inner = np.array([[0.76, -0.76], [0.40, -0.52], [0.74, -0.26]])
    eye = [(128, 208, 84), (250, 206, 60), (112, 190, 240)][rng.integers(3)]
    rim = mixed(colour, DARK, 0.45) if sum(colour) > 240 else mixed(colour, CREAM, 0.6)
    parts = [Part(ear, colour), Part(mirrored(ear), colour)]
    parts += both_sides(inner, (244, 166, 172))
    parts += [Part(ellipse(0, 0.14, 0.92, 0.76, points=36), colour, 0.8)]
    parts += both_sides(ellipse(0.4, 0.04, 0.2, 0.2), eye)
    parts += both_sides(ellipse(0.4, 0.04, 0.085, 0.18), DARK)
    for y in (0.36, 0.52):
        parts += both_sides(capsule((0.42, y), (0.84, y * 1.5 - 0.24), 0.028), rim)
    parts += [detail(ellipse(0, 0.48, 0.26, 0.17), mixed(colour, CREAM, 0.55), 0.3)]
    return Toy([*parts, detail(np.array([[-0.14, 0.3], [0.14, 0.3], [0, 0.47]]), (232, 104, 124))])


def dog(colour: Colour, rng: np.random.Generator) -> Toy:
    """A dog's face: hanging ears, a long pale muzzle, a tongue."""
    dark = mixed(colour, DARK, 0.42) if sum(colour) > 240 else mixed(colour, CREAM, 0.28)
    ear = ellipse(0.76, -0.02, 0.22, 0.6, turn=rng.uniform(-0.25, 0.0))
    parts = [Part(rounded(-0.68, -0.86, 0.68, 0.62, 0.5), colour, 0.7)]
    parts += [Part(ear, dark, 0.5), Part(mirrored(ear), dark, 0.5)]
    parts += both_sides(ellipse(0.3, -0.24, 0.13, 0.15), CREAM)
    parts += both_sides(ellipse(0.29, -0.22, 0.085, 0.11), DARK)
    if rng.random() < 0.8:
        parts += [Part(rounded(-0.16, 0.5, 0.16, 0.98, 0.15), (240, 112, 128), 0.3)]
    parts += [Part(ellipse(0, 0.36, 0.5, 0.4), mixed(colour, CREAM, 0.7), 0.6)]
    return Toy([*parts, detail(ellipse(0, 0.14, 0.22, 0.15), DARK, 0.5)])


def house(colour: Colour, rng: np.random.Generator) -> Toy:
    """Walls in the colour, a roof, a door and two windows."""
    roof = [(168, 66, 52), (96, 76, 92), (140, 92, 54)][rng.integers(3)]
    if math.dist(roof, colour) < 90:
        roof = (70, 70, 84)
    top = rng.uniform(-0.22, -0.06)
    parts = [Part(rectangle(0.34, -0.86, 0.58, -0.2), mixed(roof, DARK, 0.3), 0.2)]
    parts += [Part(rectangle(-0.78, top, 0.78, 0.94), colour, 0.15)]
    parts += [Part(np.array([[-1.0, top + 0.02], [0, -0.98], [1.0, top + 0.02]]), roof, 0.3)]
    parts += [detail(rounded(-0.18, 0.36, 0.18, 0.94, 0.06), mixed(WOOD, DARK, 0.2))]
    for side in (-1, 1):
        left = side * 0.48 - 0.18
        parts += [detail(rectangle(left - 0.05, 0.05, left + 0.41, 0.51), CREAM)]
        parts += [detail(rectangle(left, 0.1, left + 0.36, 0.46), GLASS)]
    return Toy(parts)


def tree(colour: Colour, rng: np.random.Generator) -> Toy:
    """A trunk under three balls of leaves, or a fir."""
    parts = [Part(rectangle(-0.14, 0.2, 0.14, 0.96), WOOD, 0.6)]
    if rng.random() < 0.35:
        for shade, bottom, width in ((0.2, 0.62, 0.8), (0.1, 0.14, 0.66), (0.0, -0.28, 0.5)):
            tier = np.array([[-width, bottom], [0, bottom - 0.72], [width, bottom]])
            parts += [Part(tier, mixed(colour, DARK, shade), 0.5)]
        return Toy(parts)
    for x, y, radius, shade in (
        (-0.46, 0.0, 0.46, 0.16),
        (0.46, 0.0, 0.46, 0.1),
        (0, -0.4, 0.58, 0),
    ):
        parts += [Part(ellipse(x, y, radius, radius * 0.95), mixed(colour, DARK, shade), 0.9)]
    return Toy([*parts, detail(ellipse(0, 0.08, 0.5, 0.3), colour, 0.2)])


def car(colour: Colour, rng: np.random.Generator) -> Toy:
    """A car from its side, two windows, two wheels, a lamp in front."""
    cabin = np.array([[-0.62, 0.0], [-0.4, -0.5], [0.3, -0.5], [0.56, 0.0]])
    window = np.array([[-0.46, -0.04], [-0.31, -0.38], [-0.07, -0.38], [-0.07, -0.04]])
    front = np.array([[0.05, -0.04], [0.05, -0.38], [0.24, -0.38], [0.41, -0.04]])
    parts = [Part(cabin, mixed(colour, DARK, 0.08), 0.3)]
    parts += [Part(rounded(-0.98, -0.1, 0.98, 0.4, 0.18), colour, 0.5)]
    parts += [detail(window, GLASS), detail(front, GLASS)]
    parts += [detail(ellipse(0.86, 0.08, 0.08, 0.1), (255, 240, 150))]
    for x in (-0.54, 0.54):
        parts += [Part(ellipse(x, 0.4, 0.25, 0.25), (46, 44, 50), 0.4)]
        parts += [detail(ellipse(x, 0.4, 0.11, 0.11), (196, 198, 204), 0.3)]
    facing = 1 if rng.random() < 0.5 else -1
    return Toy([Part(p.polygon * (facing, 1), p.colour, p.bulge, p.outlined) for p in parts])


def boat(colour: Colour, rng: np.random.Generator) -> Toy:
    """A hull in the colour with a mast and two sails."""
    sail = CREAM if sum(colour) < 640 else (236, 120, 96)
    hull = np.array([[-0.98, 0.36], [0.98, 0.36], [0.68, 0.92], [-0.64, 0.92]])
    large = np.array([[0.08, -0.94], [0.8, 0.24], [0.08, 0.24]])
    small = np.array([[-0.08, -0.72], [-0.08, 0.24], [-0.62, 0.24]])
    parts = [Part(rectangle(-0.06, -0.96, 0.06, 0.4), WOOD, 0.5)]
    parts += [
        Part(large, sail, 0.3),
        Part(small, mixed(sail, DARK, 0.08), 0.3),
        Part(hull, colour, 0.6),
    ]
    facing = 1 if rng.random() < 0.5 else -1
    return Toy([Part(p.polygon * (facing, 1), p.colour, p.bulge, p.outlined) for p in parts])


def flower(colour: Colour, rng: np.random.Generator) -> Toy:
    """Five or six round petals on a stem with two leaves."""
    middle = (250, 208, 58) if colour != COLOURS["yellow"] else (164, 92, 40)
    count = int(rng.integers(5, 7))
    start = rng.uniform(0, math.pi)
    leaf = ellipse(0.3, 0.7, 0.3, 0.11, turn=-0.45)
    stem = (74, 146, 62)
    parts = [Part(capsule((0, 0), (0, 0.94), 0.07), stem, 0.4)]
    parts += [Part(leaf, stem, 0.4), Part(mirrored(leaf), stem, 0.4)]
    for index in range(count):
        angle = start + 2 * math.pi * index / count
        x, y = 0.4 * math.cos(angle), -0.34 + 0.4 * math.sin(angle)
        parts += [Part(ellipse(x, y, 0.3, 0.22, turn=angle), colour, 0.5)]
    return Toy([*parts, detail(ellipse(0, -0.34, 0.22, 0.22), middle, 0.6)])


def cup(colour: Colour, rng: np.random.Generator) -> Toy:
    """A mug with a handle, seen from a little above."""
    body = np.array(
        [[-0.76, -0.5], [0.5, -0.5], [0.42, 0.78], [0.24, 0.92], [-0.5, 0.92], [-0.68, 0.78]]
    )
    ring = np.concatenate([ellipse(0.54, 0.14, 0.42, 0.42), ellipse(0.54, 0.14, 0.22, 0.22)[::-1]])
    drink = [(96, 58, 36), (190, 120, 60)][rng.integers(2)]
    parts = [Part(ring, mixed(colour, DARK, 0.12), 0.4), Part(body, colour, 0.8)]
    parts += [Part(ellipse(-0.13, -0.5, 0.63, 0.2), mixed(colour, CREAM, 0.45), 0.2)]
    parts += [detail(ellipse(-0.13, -0.46, 0.5, 0.13), drink)]
    facing = 1 if rng.random() < 0.5 else -1
    return Toy([Part(p.polygon * (facing, 1), p.colour, p.bulge, p.outlined) for p in parts])


def fish(colour: Colour, rng: np.random.Generator) -> Toy:
    """A fish from its side with a tail, two fins and an eye."""
    dark = mixed(colour, DARK, 0.28) if sum(colour) > 200 else mixed(colour, CREAM, 0.25)
    tail = np.array([[0.4, 0.0], [0.98, -0.56], [0.86, 0.0], [0.98, 0.56]])
    fin = np.array([[-0.3, -0.44], [0.02, -0.84], [0.34, -0.3]])
    belly = np.array([[-0.1, 0.4], [0.16, 0.74], [0.3, 0.3]])
    parts = [Part(tail, dark, 0.3), Part(fin, dark, 0.3), Part(belly, dark, 0.3)]
    parts += [Part(ellipse(-0.2, 0, 0.78, 0.56, points=36), colour, 0.9)]
    parts += [
        detail(ellipse(-0.58, -0.12, 0.17, 0.17), CREAM),
        detail(ellipse(-0.61, -0.12, 0.09, 0.1), DARK),
    ]
    parts += [detail(np.array([[-0.12, -0.02], [0.2, 0.2], [0.14, -0.2]]), dark)]
    facing = 1 if rng.random() < 0.5 else -1
    return Toy([Part(p.polygon * (facing, 1), p.colour, p.bulge, p.outlined) for p in parts])


def bird(colour: Colour, rng: np.random.Generator) -> Toy:
    """A round bird from its side: beak, wing, tail, legs."""
    beak = np.array([[-0.7, -0.44], [-1.0, -0.28], [-0.68, -0.16]])
    tail = np.array([[0.4, 0.1], [0.98, -0.3], [0.94, 0.16]])
    bill = (250, 160, 40) if math.dist(colour, COLOURS["orange"]) > 60 else (120, 70, 40)
    wing = mixed(colour, DARK, 0.3) if sum(colour) > 200 else mixed(colour, CREAM, 0.25)
    parts = [Part(capsule((x, 0.5), (x - 0.04, 0.94), 0.05), bill, 0.2) for x in (-0.12, 0.16)]
    parts += [Part(tail, wing, 0.3), Part(beak, bill, 0.3)]
    parts += [Part(ellipse(0.0, 0.16, 0.64, 0.52, points=36), colour, 0.8)]
    parts += [Part(ellipse(-0.42, -0.36, 0.4, 0.4), colour, 0.8)]
    parts += [detail(ellipse(-0.2, -0.06, 0.34, 0.3), colour)]
    parts += [detail(ellipse(0.16, 0.12, 0.36, 0.24, turn=-0.25), wing, 0.4)]
    parts += [
        detail(ellipse(-0.5, -0.42, 0.12, 0.12), CREAM),
        detail(ellipse(-0.52, -0.42, 0.065, 0.07), DARK),
    ]
    facing = 1 if rng.random() < 0.5 else -1
    return Toy([Part(p.polygon * (facing, 1), p.colour, p.bulge, p.outlined) for p in parts])


def ball(colour: Colour, rng: np.random.Generator) -> Toy:
    """A shining ball."""
    shine = mixed(colour, (255, 255, 255), 0.6)
    return Toy(
        [
            Part(ellipse(0, 0, 0.94, 0.94, points=44), colour, 1.0),
            detail(ellipse(-0.34, -0.4, 0.22, 0.15, turn=-0.6), shine),
        ]
    )


def star(colour: Colour, rng: np.random.Generator) -> Toy:
    """A five-pointed star."""
    angle = np.arange(10) * math.pi / 5 - math.pi / 2 + rng.uniform(-0.15, 0.15)
    radius = np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.42, 0.5))
    return Toy([Part(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), colour, 0.6)])


def heart(colour: Colour, rng: np.random.Generator) -> Toy:
    """A heart."""
    t = np.linspace(0, 2 * math.pi, 44, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    shine = mixed(colour, (255, 255, 255), 0.5)
    return Toy(
        [
            Part(np.stack([0.97 * np.sin(t) ** 3, -y / 16.5], 1), colour, 0.9),
            detail(ellipse(-0.46, -0.42, 0.17, 0.11, turn=-0.7), shine),
        ]
    )


def sun(colour: Colour, rng: np.random.Generator) -> Toy:
    """A smiling disc with rays."""
    count = int(rng.integers(9, 12))
    ray = np.array([[0.56, -0.2], [1.0, 0.0], [0.56, 0.2]])
    rays = [
        Part(turned(ray, 2 * math.pi * i / count), mixed(colour, DARK, 0.08), 0.1)
        for i in range(count)
    ]
    parts = [*rays, Part(ellipse(0, 0, 0.62, 0.62, points=36), colour, 0.7)]
    parts += both_sides(ellipse(0.22, -0.1, 0.07, 0.1), accent(colour))
    smile = np.array(
        [[-0.26, 0.16], [-0.12, 0.22], [0.12, 0.22], [0.26, 0.16], [0.14, 0.34], [-0.14, 0.34]]
    )
    return Toy([*parts, detail(smile, accent(colour))])


def mountain(colour: Colour, rng: np.random.Generator) -> Toy:
    """A large and a small peak, both with snow."""
    peak = rng.uniform(-0.2, 0.0)
    snow = (250, 250, 252) if sum(colour) < 660 else (150, 176, 208)
    side = np.array([[0.0, 0.86], [0.56, -0.16], [1.0, 0.86]])
    cap = [[-0.3, -0.24], [0.0, -0.9], [0.3, -0.24], [0.14, -0.4], [0.0, -0.16], [-0.14, -0.4]]
    main = np.array([[-1.0, 0.86], [peak, -0.9], [0.76, 0.86]])
    return Toy(
        [
            Part(side, mixed(colour, DARK, 0.22), 0.4),
            Part(main, colour, 0.4),
            detail(np.array(cap) * (0.9, 1) + (peak, 0), snow),
        ]
    )


def person(colour: Colour, rng: np.random.Generator) -> Toy:
    """A standing child in a shirt of the colour, with the 18 joints that OpenPose counts."""
    joints = person_joints(rng)
    skin, hair = SKINS[rng.integers(len(SKINS))], HAIRS[rng.integers(len(HAIRS))]
    trousers = [(62, 78, 128), (84, 84, 92), (140, 112, 78)][rng.integers(3)]
    parts = []
    for hip, knee, ankle, side in ((8, 9, 10, -1), (11, 12, 13, 1)):
        parts += [Part(capsule(joints[hip], joints[knee], 0.13, 0.11), trousers, 0.4)]
        parts += [Part(capsule(joints[knee], joints[ankle], 0.11, 0.09), trousers, 0.4)]
        x, y = joints[ankle] + (side * 0.06, 0.05)
        parts += [Part(ellipse(x, y, 0.14, 0.08), DARK, 0.4)]
    for shoulder, elbow, wrist in ((2, 3, 4), (5, 6, 7)):
        sleeve = mixed(colour, DARK, 0.12)
        parts += [Part(capsule(joints[shoulder], joints[elbow], 0.11, 0.09), sleeve, 0.4)]
        parts += [Part(capsule(joints[elbow], joints[wrist], 0.075, 0.085), skin, 0.4)]
    parts += [Part(rounded(-0.29, -0.36, 0.29, 0.32, 0.12), colour, 0.5)]
    x, y = joints[0]
    parts += [Part(ellipse(x, y - 0.06, 0.33, 0.34), hair, 0.6)]
    parts += [detail(ellipse(x, y + 0.02, 0.26, 0.25), skin, 0.5)]
    for eye in (14, 15):
        parts += [detail(ellipse(joints[eye, 0], joints[eye, 1], 0.04, 0.055), DARK)]
    parts += [detail(ellipse(x, y + 0.15, 0.09, 0.04), (206, 84, 84))]
    return Toy(parts, joints.astype(np.float32))


def person_joints(rng: np.random.Generator) -> Array:
    """Joints (18, 2) in OpenPose's order, inside the person's square."""
    joints = np.zeros((18, 2))
    joints[0] = (rng.uniform(-0.04, 0.04), -0.64)
    joints[1] = (0, -0.3)
    for eye, ear, side in ((14, 16, -1), (15, 17, 1)):
        joints[eye], joints[ear] = joints[0] + (side * 0.1, -0.02), joints[0] + (side * 0.26, 0.0)
    for side, chain in ((-1, (2, 3, 4, 8, 9, 10)), (1, (5, 6, 7, 11, 12, 13))):
        shoulder, elbow, wrist, hip, knee, ankle = chain
        joints[shoulder], joints[hip] = (side * 0.24, -0.26), (side * 0.14, 0.28)
        raised = rng.uniform(0.2, 2.5)
        joints[elbow] = joints[shoulder] + _reach(side, raised, 0.3)
        joints[wrist] = joints[elbow] + _reach(side, raised + rng.uniform(-0.3, 0.6), 0.27)
        spread = rng.uniform(0.0, 0.4)
        joints[knee] = joints[hip] + _reach(side, spread, 0.31)
        joints[ankle] = joints[knee] + _reach(side, spread - rng.uniform(0, 0.25), 0.31)
    return joints


def _reach(side: int, angle: float, length: float) -> Array:
    """A step away from the body: angle 0 points down, pi / 2 to the side, pi up."""
    return length * np.array([side * math.sin(angle), math.cos(angle)])


@dataclass(frozen=True)
class Kind:
    """How a class is built, the colours it has by nature, and where it belongs."""

    build: Builder
    natural: tuple[str, ...]
    places: tuple[str, ...]
    floats: bool = False


LAND = ("grass", "beach", "snow", "sunset", "night")
ANYWHERE = (*LAND, "room")
KINDS: dict[str, Kind] = {
    "cat": Kind(cat, ("orange", "gray", "black", "white", "brown"), ("grass", "room", "snow")),
    "dog": Kind(dog, ("brown", "white", "orange", "gray", "black"), ("grass", "room", "beach")),
    "house": Kind(house, ("red", "yellow", "white", "orange", "blue"), LAND),
    "tree": Kind(tree, ("green",), ("grass", "snow", "sunset", "night")),
    "car": Kind(car, ("red", "blue", "yellow", "green"), LAND),
    "boat": Kind(boat, ("red", "blue", "brown", "white"), ("sea",)),
    "person": Kind(person, ("red", "blue", "green", "yellow"), ANYWHERE),
    "flower": Kind(flower, ("red", "pink", "yellow", "purple"), ("grass", "room")),
    "cup": Kind(cup, ("white", "blue", "red", "green"), ("room",)),
    "fish": Kind(fish, ("orange", "blue", "red", "yellow"), ("sea",), floats=True),
    "bird": Kind(bird, ("blue", "red", "yellow", "brown"), ("grass", "snow", "beach")),
    "ball": Kind(ball, ("red", "blue", "yellow", "orange"), ("grass", "beach", "room")),
    "star": Kind(star, ("yellow",), ("night",), floats=True),
    "heart": Kind(heart, ("red", "pink"), ("room",), floats=True),
    "sun": Kind(sun, ("yellow", "orange"), ("grass", "beach", "sea", "sunset"), floats=True),
    "mountain": Kind(mountain, ("gray", "brown", "blue"), ("grass", "snow", "sunset")),
}
CLASSES = tuple(KINDS)
