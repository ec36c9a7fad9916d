"""What `generate` reports while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnctl.commands.shared.events import FailedImage, Loading, Note, Stage


@dataclass(frozen=True)
class Preview:
    """The images of a batch as estimated after `step` of their steps, RGB uint8 (B, H, W, 3)."""

    step: int
    images: np.ndarray


Event = Note | Loading | Stage | FailedImage | Preview
OnEvent = Callable[[Event], None]
