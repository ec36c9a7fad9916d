"""Draw the pictures in this folder and images/bird.png: held-out scenes of the embedded base.

python examples/hints/draw.py
"""

from pathlib import Path

import cv2
import numpy as np

from cnctl.hints.run import hint_from_maps, load_detector
from cnctl.images import write_image
from cnctl.registry import get_condition
from cnctl.tiny.scenes import HELD_OUT, LABELS, exact_maps, render_scene

WIDE = {"width": 10.0}
HINTS = [  # condition, what the scene shows, the scene's number, options
    ("canny", "cat", 4, {}),
    ("hough", "house", 7, {}),
    ("hed", "bird", 0, {}),
    ("scribble", "fish", 5, WIDE),
    ("depth", "flower", 3, {}),
    ("normal", "car", 7, {}),
    ("ade20k", "boat", 7, {}),
    ("openpose", "person", 4, {}),
    # For the figures of the paper, docs/paper.md: one house in five other ways, simple things.
    *[(name, "house", 7, {}) for name in ("canny", "hed", "depth", "normal")],
    ("scribble", "house", 7, WIDE),
    ("canny", "heart", 7, {}),
    ("canny", "ball", 6, {}),
    ("canny", "car", 6, {}),
    # For the pages of the conditions.
    ("coco-stuff", "tree", 3, {}),
    ("normal-bae", "car", 7, {}),
]
SMALL = ("cat", 4)
"""The scene that tile enlarges."""
SMALL_SIDE = 32
SHOWN = ("bird", 7)
"""The scene that README begins with."""
EDITED = ("house", 6)
"""The scene that figure 16 edits; the car of the same number stands in the same place."""


def draw_hint(name: str, shown: str, number: int, options: dict) -> np.ndarray:
    """The condition's hint of a scene, uint8 (128, 128, 3)."""
    condition, scene = get_condition(name), render_scene(HELD_OUT + number, show=shown)
    if condition.from_maps is None:
        return load_detector(condition)(scene.image, **options)
    return hint_from_maps(condition, exact_maps(scene), **options)


def draw_edited() -> dict[str, np.ndarray]:
    """A scene and a mask of what stands in it, with room around, both uint8 (128, 128, 3)."""
    shown, number = EDITED
    scene = render_scene(HELD_OUT + number, show=shown)
    thing = (scene.segmentation == LABELS[shown]).astype(np.uint8) * 255
    room = cv2.dilate(thing, np.ones((13, 13), np.uint8))
    return {f"hints/image-{shown}": scene.image, f"hints/mask-{shown}": np.dstack([room] * 3)}


def draw_small() -> dict[str, np.ndarray]:
    """A picture of a quarter of the base's resolution, uint8 (32, 32, 3)."""
    shown, number = SMALL
    image = render_scene(HELD_OUT + number, show=shown).image
    side = (SMALL_SIDE, SMALL_SIDE)
    return {f"hints/small-{shown}": cv2.resize(image, side, interpolation=cv2.INTER_AREA)}


def draw_shown() -> dict[str, np.ndarray]:
    shown, number = SHOWN
    return {f"images/{shown}": render_scene(HELD_OUT + number, show=shown).image}


def draw_all() -> dict[str, np.ndarray]:
    """By path below examples/, without its suffix."""
    hints = {f"hints/{name}-{shown}": draw_hint(name, shown, *how) for name, shown, *how in HINTS}
    return hints | draw_edited() | draw_small() | draw_shown()


if __name__ == "__main__":
    for name, picture in draw_all().items():
        path = Path(__file__).parents[1] / f"{name}.png"
        write_image(path, picture, overwrite=True)
        print(path)
