"""How images and hints are stored in a shard."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cnctl.curation.recipe import Images
from cnctl.images import copied_suffix, encode_image

LOSSY = (".jpg", ".webp")


class Stored(NamedTuple):
    """kind: the end of its name. how: "copied", "resized", or "re-encoded"."""

    kind: str
    data: bytes
    how: str


def store_image(data: bytes, picture: np.ndarray, *, images: Images, image: np.ndarray) -> Stored:
    """The file as it is, where every reader shows it upright; else written again.

    picture: RGB uint8 (H, W, 3); image: the same at working size. A file with losses is resized to
    JPEG of quality 95, any other to PNG.
    """
    suffix = copied_suffix(data)
    if images == "copy" and suffix:
        return Stored(suffix[1:], data, "copied")
    pixels, how = (picture, "re-encoded") if images == "copy" else (image, "resized")
    kind = ".jpg" if suffix in LOSSY else ".png"
    return Stored(kind[1:], encode_image(pixels, kind, {}), how)
