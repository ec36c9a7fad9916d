"""`--region` in `cnctl generate`: where a control acts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnctl.images import read_mask


def read_region(path: Path | str | None) -> np.ndarray | None:
    """The part of the image where a control acts: float32 (H, W) in [0, 1]; None for all of it."""
    return None if path is None else read_mask(path)
