"""The pictures of these pages, made by the conditions themselves: python make_pictures.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cnctl.commands.shared.report.sheets import visible
from cnctl.hints.run import hint_from_maps, load_detector
from cnctl.plugin import Detection
from cnctl.registry import get_condition
from cnctl.tiny.scenes import exact_maps, render_scene

SIZE = 192
SEED = 3
COLOURS = 64
WITHOUT_WEIGHTS: dict[str, dict[str, str | bool | int | float]] = {
    "blur-gaussian": {"sigma": 4.0},
    "canny": {},
    "hough": {"method": "lsd"},
    "inpaint": {},
    "ip2p": {},
    "scribble": {"drawing": True},
    "shuffle": {"scale": 64},
    "tile": {"factor": 8.0},
}
"""Condition -> the options to show, with which it needs no file."""
FROM_MAPS = {
    "ade20k": "house",
    "coco-stuff": "house",
    "depth": "car",
    "hed": "car",
    "normal": "car",
    "normal-bae": "car",
    "openpose": "person",
    "softedge-safe": "car",
}
"""Condition -> what its scene shows; the hint is made of what the renderer knows."""


def picture(name: str) -> np.ndarray:
    """A scene and its hint side by side, uint8 (192, 384, 3)."""
    if name in FROM_MAPS:
        maps = exact_maps(render_scene(SEED, size=SIZE, show=FROM_MAPS[name]))
        return side_by_side(maps["image"], hint_from_maps(get_condition(name), maps))
    scene = render_scene(SEED, size=SIZE).image
    if name == "scribble":
        edges = load_detector(get_condition("canny"))(scene)
        assert edges is not None
        scene = 255 - edges
    hint = load_detector(get_condition(name))(scene, **WITHOUT_WEIGHTS[name])
    return side_by_side(scene, hint)


def side_by_side(scene: np.ndarray, hint: np.ndarray | Detection | None) -> np.ndarray:
    assert isinstance(hint, np.ndarray)
    return np.concatenate([scene, visible(hint)], axis=1)


if __name__ == "__main__":
    for name in (*WITHOUT_WEIGHTS, *FROM_MAPS):
        shown = Image.fromarray(picture(name))
        if name in WITHOUT_WEIGHTS:  # elsewhere each colour has a meaning
            shown = shown.quantize(COLOURS, dither=Image.Dither.NONE)
        shown.save(Path(__file__).with_name(f"{name}.png"), optimize=True)
