"""The pictures of these pages, made by the conditions themselves: python make_pictures.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cnctl.hints import load_detector
from cnctl.jobs.sheets import visible
from cnctl.registry import get_condition
from cnctl.tiny.scenes import render_scene

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


def picture(name: str) -> np.ndarray:
    """A scene and its hint side by side, uint8 (192, 384, 3)."""
    scene = render_scene(SEED, size=SIZE).image
    if name == "scribble":
        edges = load_detector(get_condition("canny"))(scene)
        assert edges is not None
        scene = 255 - edges
    hint = load_detector(get_condition(name))(scene, **WITHOUT_WEIGHTS[name])
    assert hint is not None
    return np.concatenate([scene, visible(hint)], axis=1)


if __name__ == "__main__":
    for name in WITHOUT_WEIGHTS:
        pixels = Image.fromarray(picture(name)).quantize(COLOURS, dither=Image.Dither.NONE)
        pixels.save(Path(__file__).with_name(f"{name}.png"), optimize=True)
