"""A training set: examples by index, each the same whenever it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from cnctl.images import read_hint

COLUMNS = (
    ("image", "file_name", "image_file_name"),
    ("hint", "hint_file_name", "conditioning_image", "conditioning_image_file_name"),
    ("prompt", "text", "caption"),
)
"""Names of image, hint and prompt: cnctl's, then those of Hugging Face's imagefolder."""

read_colours = partial(read_hint, channels=3)


@dataclass(frozen=True)
class Example:
    """image: RGB uint8 (H, W, 3); hint: uint8 (h, w, C), or None where it has to be detected.

    maps: what a renderer knows of the image, as `cnctl.plugin.Condition.from_maps` takes it.
    """

    image: np.ndarray
    hint: np.ndarray | None
    prompt: str
    maps: Mapping[str, Any] | None = None


class Dataset(Protocol):
    """Examples by index, each the same whenever it is read."""

    @property
    def fingerprint(self) -> str:
        """A hash that changes when the index of the examples does."""

    @property
    def ready_hints(self) -> int:
        """How many examples include a hint."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def image_size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of an image, which is not decoded."""

    def name(self, index: int) -> str:
        """Return what to call an example in a message."""
