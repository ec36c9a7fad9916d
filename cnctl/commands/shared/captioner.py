"""Captions of images, for the automatic prompt mode (section 4.1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cnctl.hints.captioner import load_captioner, load_own_captioner
from cnctl.models.base import Base

Caption = Callable[[np.ndarray], str]
"""An image, RGB uint8 (H, W, 3), in words."""


def open_captioner(source: str | None, base: Base) -> Caption:
    """The captioner of this name, see `load_captioner`; else the base's own, else BLIP."""
    if source is None and "captioner" in base.defaults:
        of_all = load_own_captioner(base.path, base.defaults, device=base.device)
    else:
        of_all = load_captioner(source, device=base.device)
    return lambda image: of_all([image])[0]
