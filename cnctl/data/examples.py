"""A training set: examples by index, each the same whenever it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from cnctl.data.problems import Problem
from cnctl.images import read_hint

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

    @property
    def ready_prompts(self) -> int:
        """How many examples include a prompt."""

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong with the files around the examples, or is not read of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def prompt(self, index: int) -> str:
        """Return the prompt alone, as the example has it."""

    def image_size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of an image, which is not decoded."""

    def name(self, index: int) -> str:
        """Return what to call an example in a message."""
