"""Draw the hints in this folder, from held-out scenes of the embedded base's world.

python examples/hints/draw.py
"""

from pathlib import Path

import numpy as np

from cnctl.hints import hint_from_maps, load_detector
from cnctl.images import write_image
from cnctl.registry import get_condition
from cnctl.tiny.dataset import HELD_OUT
from cnctl.tiny.scenes import exact_maps, render_scene

HINTS = {  # condition: what the scene shows, its number, options
    "canny": ("cat", 4, {}),
    "hough": ("house", 7, {}),
    "hed": ("bird", 0, {}),
    "scribble": ("fish", 5, {"width": 10.0}),
    "depth": ("flower", 3, {}),
    "normal": ("car", 7, {}),
    "ade20k": ("boat", 7, {}),
    "openpose": ("person", 4, {}),
}


def draw_hint(name: str, shown: str, number: int, options: dict) -> np.ndarray:
    """The condition's hint of a scene, uint8 (128, 128, 3)."""
    condition, scene = get_condition(name), render_scene(HELD_OUT + number, show=shown)
    if condition.from_maps is None:
        return load_detector(condition)(scene.image, **options)
    return hint_from_maps(condition, exact_maps(scene), **options)


if __name__ == "__main__":
    for name, (shown, number, options) in HINTS.items():
        path = Path(__file__).parent / f"{name}-{shown}.png"
        write_image(path, draw_hint(name, shown, number, options), overwrite=True)
        print(path)
