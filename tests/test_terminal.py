"""Half blocks hold two pixels in each character."""

import re

import numpy as np

from cnctl.images import half_blocks


def test_each_character_is_two_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    lines = half_blocks(image, columns=6).splitlines()
    assert len(lines) == 2
    for row, line in enumerate(lines):
        cells = re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m\u2580", line)
        upper, lower = np.split(np.array(cells, int), 2, axis=1)
        assert np.array_equal(upper, image[2 * row])
        assert np.array_equal(lower, image[2 * row + 1])
        assert line.endswith("\033[0m")


def test_the_aspect_is_kept() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    assert len(half_blocks(image, columns=40).splitlines()) == 10
    assert len(half_blocks(np.zeros((1, 200, 3), np.uint8), columns=40).splitlines()) == 1
