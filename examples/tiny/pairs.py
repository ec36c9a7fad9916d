"""Training sets of drawn scenes that `--data scenes:N` does not give, as folders for `cnctl train`.

    python -m examples.tiny.pairs edits --count 6000 --out out/edits
    python -m examples.tiny.pairs normals --count 6000 --out out/normals
    python -m examples.tiny.pairs shapes --count 12000 --out out/shapes

edits: a picture before a change is the hint of the picture after it, and the prompt says what to
change, for ip2p. normals: the hints of half of the scenes have x, y, z as red, green, blue, the
others z, y, x, for a ControlNet that reads both. shapes: one picture of three is a scene, the
others show nothing that has a name, without hints, which `--columns hint=` detects.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cnctl_conditions.normal import normal
from numpy.typing import NDArray

from cnctl.hints.run import hint_from_maps
from cnctl.images.write import write_image
from cnctl.tiny.canvas import Array, Canvas
from cnctl.tiny.captions import PLACES, Backdrop, describe
from cnctl.tiny.scenes import (
    LANDS,
    USUAL,
    Planned,
    exact_maps,
    paint_backdrop,
    paint_thing,
    plan,
    render_scene,
)
from cnctl.tiny.shapes import COLOURS, KINDS
from examples.tiny.dataset import training_scene
from examples.tiny.free_shapes import free_picture

SIZE = 128
PLAIN = "a picture"
"""Words for a picture that shows nothing with a name."""
STREAM = 20230217
"""Names the random stream of edits."""
GROUND, MARGIN = 0.62, 0.95
"""Where `paint_thing` puts a thing on the ground, in sides of the picture."""


class Pair(NamedTuple):
    """A picture and its hint, RGB uint8 (128, 128, 3)."""

    image: NDArray[np.uint8]
    hint: NDArray[np.uint8] | None
    prompt: str


def edited(seed: int) -> Pair:
    """A scene after a change of its colour or its backdrop, and before it as the hint."""
    rng = np.random.default_rng([STREAM, seed])
    (thing,), backdrop = plan(rng, USUAL, None)
    if not KINDS[thing.name].floats:  # it stays where a landscape would put it
        height = min(GROUND, MARGIN - thing.radius)
        thing = thing._replace(centre=(thing.centre[0], height))
    light = np.array([rng.uniform(-0.6, 0.6), rng.uniform(0.35, 0.7), 1.0], np.float32)
    change = recoloured if rng.random() < 0.5 else moved
    new_thing, new_backdrop, order = change(thing, backdrop, rng)
    said = describe(rng, [(new_thing.name, new_thing.colour)], new_backdrop)
    prompt = order if rng.random() < 0.5 else said
    light /= np.linalg.norm(light)
    before = painted(seed, thing, backdrop, light)
    return Pair(painted(seed, new_thing, new_backdrop, light), before, prompt)


def recoloured(
    thing: Planned, backdrop: Backdrop, rng: np.random.Generator
) -> tuple[Planned, Backdrop, str]:
    """The thing in another colour, and the order for it."""
    free = [colour for colour in COLOURS if colour not in (thing.colour, *backdrop.colours)]
    colour = free[rng.integers(len(free))]
    order = f"make the {thing.name} {colour}" if rng.random() < 0.5 else f"make it {colour}"
    return thing._replace(colour=colour), backdrop, order


def moved(
    thing: Planned, backdrop: Backdrop, rng: np.random.Generator
) -> tuple[Planned, Backdrop, str]:
    """The thing in another landscape, and the order for it."""
    kinds = [kind for kind in LANDS if kind != backdrop.kind]
    kind = kinds[rng.integers(len(kinds))]
    phrases = PLACES[kind]
    return thing, Backdrop(kind, backdrop.colours), f"put it {phrases[rng.integers(len(phrases))]}"


def painted(seed: int, thing: Planned, backdrop: Backdrop, light: Array) -> NDArray[np.uint8]:
    """The picture; what is random in the thing does not depend on the backdrop."""
    behind, before = (np.random.default_rng([STREAM, seed, part]) for part in (1, 2))
    canvas = Canvas(SIZE, light)
    paint_backdrop(canvas, backdrop, behind)
    paint_thing(canvas, thing, backdrop, before)
    return np.clip(canvas.image + 0.5, 0, 255).astype(np.uint8)


def with_normals(seed: int) -> Pair:
    """A scene and its normals, in the order of one of the two conditions in turn."""
    scene = render_scene(seed, size=SIZE)
    order = "xyz" if seed % 2 else "zyx"
    hint = hint_from_maps(normal, exact_maps(scene), order=order)
    assert hint is not None
    return Pair(scene.image, hint, scene.prompt)


def with_free_shapes(seed: int) -> Pair:
    """A picture without a hint: every third is a scene, and of the others nothing is said."""
    if seed % 3 == 0:
        scene = training_scene(seed)
        return Pair(scene.image, None, scene.prompt)
    return Pair(free_picture(seed), None, PLAIN)


def write_pairs(folder: Path, make: Callable[[int], Pair], count: int) -> None:
    """Write the pairs of the first seeds, and an index that `cnctl train` reads."""
    lines = []
    for seed in range(count):
        pair, name = make(seed), f"{seed:06d}.png"
        write_image(folder / "images" / name, pair.image, overwrite=True)
        line = {"image": f"images/{name}", "prompt": pair.prompt}
        if pair.hint is not None:
            write_image(folder / "hints" / name, pair.hint, overwrite=True)
            line["hint"] = f"hints/{name}"
        lines.append(line)
    index = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metadata.jsonl").write_text(index, encoding="utf-8")


SETS = {
    "edits": edited,
    "normals": with_normals,
    "shapes": with_free_shapes,
}


def main() -> None:
    line = argparse.ArgumentParser(prog="python -m examples.tiny.pairs", description=__doc__)
    line.add_argument("set", choices=tuple(SETS))
    line.add_argument("--count", type=int, default=6000)
    line.add_argument("--out", type=Path, required=True)
    asked = line.parse_args()
    write_pairs(asked.out, SETS[asked.set], asked.count)


if __name__ == "__main__":
    main()
