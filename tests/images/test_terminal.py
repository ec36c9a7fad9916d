"""Pictures in a terminal: half blocks, and the graphics of terminals that have them."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from cnctl.images import draw, half_blocks


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


@pytest.mark.parametrize("side", [4, 64])
def test_kitty_is_sent_a_png_in_chunks(side: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    sent = draw(image, columns=9, environ={"TERM": "xterm-kitty"})
    parts = re.findall(r"\033_G([^;]*);([^\033]*)\033\\", sent)
    keys = [dict(pair.split("=") for pair in part.split(",")) for part, _ in parts]
    assert keys[0].items() >= {"a": "T", "f": "100", "c": "9", "q": "2"}.items()
    assert [key["m"] for key in keys] == ["1"] * (len(parts) - 1) + ["0"]
    assert (len(parts) > 1) == (side == 64)
    assert all(len(chunk) <= 4096 for _, chunk in parts)
    data = base64.b64decode("".join(chunk for _, chunk in parts))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


def test_iterm_is_sent_a_png() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    sent = draw(image, columns=7, environ={"TERM_PROGRAM": "WezTerm"})
    data = re.fullmatch(r"\033\]1337;File=inline=1;width=7:([^\a]*)\a", sent)
    assert data
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1])))), image)


@pytest.mark.parametrize("environ", [{"TERM": "xterm"}, {"TERM": "xterm-kitty", "TMUX": "1"}])
def test_other_terminals_and_multiplexers_get_half_blocks(environ: dict) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert draw(image, columns=6, environ=environ) == half_blocks(image, columns=6)
