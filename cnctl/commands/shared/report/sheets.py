"""Pictures for people, of hints and outputs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnctl.images import eight_bits, fit_image

COLUMNS = 4
"""Cells in a row."""
CELL = 256
"""Pixels of a reduced picture's short side, at most."""
GAP = 4
"""White pixels between cells."""
LABEL_HEIGHT = 24
"""Pixels below a cell, for its name."""
FONT_SIZE = 15
MIN_FONT_SIZE = 6
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
MASKED = np.uint8(128)
"""The grey that stands for what is masked."""


def compare(source: np.ndarray, hints: Mapping[str, np.ndarray]) -> np.ndarray:
    """The source, then each hint with its name below, as figures 23 to 25 of the paper have them.

    source: RGB uint8 (H, W, 3); hints: name -> uint8 (H, W, C), all of its size. RGB uint8.
    """
    shown = [(visible(hint), name) for name, hint in hints.items()]
    return in_rows(labelled([(source, "source"), *shown]))


def visible(hint: np.ndarray) -> np.ndarray:
    """A hint (H, W, C) as RGB of 8 bits: one channel as grey, four as colours and a mask, else the
    first three (two are padded).
    """
    hint = eight_bits(hint)
    if hint.shape[2] == 1:
        return np.repeat(hint, 3, axis=2)
    if hint.shape[2] == 4:
        return np.where(hint[..., 3:] < 128, MASKED, hint[..., :3])
    padding = np.zeros((*hint.shape[:2], max(0, 3 - hint.shape[2])), np.uint8)
    return np.concatenate([hint[..., :3], padding], axis=2)


def in_rows(cells: Sequence[np.ndarray]) -> np.ndarray:
    """Cells uint8 (H, W, 3), all of one size, in as many rows as they need."""
    columns = min(COLUMNS, len(cells))
    whole = [*cells, *[np.full_like(cells[0], 255)] * (-len(cells) % columns)]
    return arrange([whole[i : i + columns] for i in range(0, len(whole), columns)])


def reduced(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """RGB uint8 fitted to this aspect, (height, width), its short side no longer than a cell's."""
    scale = min(1.0, CELL / min(size))
    return fit_image(picture, size=(round(size[0] * scale), round(size[1] * scale)))


def arrange(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Cells uint8 (H, W, 3), all of one size, as one picture with white between them."""
    height, width = rows[0][0].shape[:2]
    down, across = height + GAP, width + GAP
    picture = np.full((len(rows) * down + GAP, len(rows[0]) * across + GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            top, left = GAP + i * down, GAP + j * across
            picture[top : top + height, left : left + width] = cell
    return picture


def labelled(cells: Sequence[tuple[np.ndarray, str]]) -> list[np.ndarray]:
    """Each picture, RGB uint8 (H, W, 3), with its label below, all in one size of text that fits.

    The pictures have one width.
    """
    width = cells[0][0].shape[1]
    font = _font(max((label for _, label in cells), key=_length), width)
    return [np.concatenate([picture, _strip(label, width, font)]) for picture, label in cells]


def _length(label: str) -> float:
    return ImageFont.load_default(FONT_SIZE).getlength(label)


def _font(label: str, width: int) -> Font:
    """The largest in which the label fits."""
    fonts = map(ImageFont.load_default, range(FONT_SIZE, MIN_FONT_SIZE, -1))
    fitting = (font for font in fonts if font.getlength(label) <= width - GAP)
    return next(fitting, ImageFont.load_default(MIN_FONT_SIZE))


def _strip(label: str, width: int, font: Font) -> np.ndarray:
    strip = Image.new("RGB", (width, LABEL_HEIGHT), "white")
    middle = (width / 2, LABEL_HEIGHT / 2)
    ImageDraw.Draw(strip).text(middle, label, "black", font, anchor="mm")
    return np.asarray(strip)
