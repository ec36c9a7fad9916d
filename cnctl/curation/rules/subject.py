"""What rules look at: an image with its hints and caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from cnctl.curation.reasons import Reason
from cnctl.images import eight_bits
from cnctl.plugin import Condition, Detection, Metric

THUMBNAIL = 64


@dataclass(frozen=True)
class Subject:
    """size: (height, width) of the image as stored. image: RGB uint8 (H, W, 3), at working size."""

    size: tuple[int, int]
    image: np.ndarray
    caption: str

    @cached_property
    def thumbnail(self) -> np.ndarray:
        """RGB uint8 (64, 64, 3), the average of what it shows."""
        return cv2.resize(self.image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class Found:
    """A hint that was found, and its condition."""

    condition: Condition
    detection: Detection

    @property
    def metric(self) -> str:
        """The name of the condition's metric, which depends on the kind of hint."""
        metric = self.condition.metric
        return metric.name if isinstance(metric, Metric) else metric

    @property
    def data(self) -> Mapping[str, Any]:
        """What the hint was drawn from."""
        return self.detection.data

    @cached_property
    def hint(self) -> np.ndarray:
        """uint8 (H, W, C)."""
        return eight_bits(self.detection.hint)

    @cached_property
    def channels(self) -> list[np.ndarray]:
        """Each channel by itself, (H, W); one where all are equal."""
        first, *others = cv2.split(self.hint)
        return [first, *(other for other in others if not np.array_equal(first, other))]

    @property
    def stored(self) -> np.ndarray:
        """The hint as it is written: uint8 or uint16 (H, W, C), one channel where all are equal."""
        found = self.detection.hint
        if found.shape[2] == 3 and found.dtype == np.uint8 and len(self.channels) == 1:
            return self.channels[0][:, :, None]
        return found


@dataclass(frozen=True)
class Judged:
    """Numbers by the names of rules, and the reasons of those that are not met, in order."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    failed: tuple[Reason, ...] = ()
