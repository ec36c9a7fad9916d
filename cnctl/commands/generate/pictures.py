"""The decoded input images of a run: each is checked first and used later, but decoded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnctl.hints.ready import read_ready
from cnctl.images import read_picture, shown
from cnctl.plugin import Condition

KEPT_BYTES = 2**28
"""About 340 images of 512x512 pixels, or 7 photographs of 12 megapixels."""


class Pictures:
    """Reads input images, and keeps the first of them, up to `limit` bytes in all.

    note: is called with a line about what is not read of an image.
    """

    def __init__(
        self, *, limit: int = KEPT_BYTES, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self._room, self._note = limit, note
        self._noted: set[Path] = set()
        self._kept: dict[tuple[Path, str], np.ndarray] = {}

    def photograph(self, path: Path) -> np.ndarray:
        """An image file as RGB uint8 (H, W, 3), as `read_image` returns it."""
        return self._read(path, "", lambda: self._decode(path))

    def hint(self, condition: Condition, path: Path) -> np.ndarray:
        """A file that holds a hint of this condition, (H, W, C), as `read_ready` returns it."""
        return self._read(path, condition.name, lambda: read_ready(condition, path))

    def _decode(self, path: Path) -> np.ndarray:
        picture = read_picture(path)
        if path not in self._noted and (text := picture.describe_frames(shown(path))):
            self._note(text)
        self._noted.add(path)
        return picture.pixels

    def _read(self, path: Path, condition: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        key = path, condition
        if key not in self._kept:
            picture = decode()
            if picture.nbytes > self._room:
                return picture.copy()
            self._room -= picture.nbytes
            self._kept[key] = picture
        return self._kept[key].copy()  # a detector may draw on its input
