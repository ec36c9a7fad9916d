"""How images are stored in a shard."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnctl.curation.recipe import Images
from cnctl.images import copied_suffix, encode_image, is_lossy


class Stored(NamedTuple):
    """kind: the end of its name. data: a path is linked to.

    how: "copied", "linked", "resized", or "re-encoded".
    """

    kind: str
    data: bytes | Path
    how: str


def store_image(
    data: bytes,
    picture: np.ndarray,
    *,
    images: Images,
    image: np.ndarray,
    path: Path | None = None,
) -> Stored:
    """The file as it is, where every reader shows it upright; else written again.

    picture: RGB uint8 (H, W, 3); image: the same at working size; path: of the file, None where it
    is a part of another. A file with losses is resized to JPEG of quality 95, any other to PNG.
    """
    suffix = copied_suffix(data)
    if images != "resize" and suffix:
        if images == "link" and path is not None:
            return Stored(suffix[1:], path.absolute(), "linked")
        return Stored(suffix[1:], data, "copied")
    if images != "resize":
        return Stored("png", encode_image(picture, ".png", {}), "re-encoded")
    kind = ".jpg" if is_lossy(data) else ".png"
    return Stored(kind[1:], encode_image(image, kind, {}), "resized")
