"""How images are stored in a shard."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnctl.curation.recipe import Images
from cnctl.images import Picture, encode_image


class Stored(NamedTuple):
    """kind: the end of its name. data: a path is linked to.

    how: "copied", "linked", "resized", or "re-encoded".
    """

    kind: str
    data: bytes | Path
    how: str


def store_image(
    data: bytes,
    picture: Picture,
    *,
    images: Images,
    image: np.ndarray,
    path: Path | None = None,
) -> Stored:
    """The file as it is, where every reader shows it upright; else written again.

    picture: the file, decoded. image: RGB uint8 (H, W, 3), the same at working size. path: of the
    file, None where it is a part of another. A file with losses is resized to JPEG of quality 95,
    any other to PNG.
    """
    if images != "resize" and picture.suffix:
        kind = picture.suffix[1:]
        if images == "link" and path is not None:
            return Stored(kind, path.absolute(), "linked")
        return Stored(kind, data, "copied")
    if images != "resize":
        return Stored("png", encode_image(picture.pixels, ".png", {}), "re-encoded")
    kind = "jpg" if picture.is_lossy else "png"
    return Stored(kind, encode_image(image, f".{kind}", {}), "resized")
