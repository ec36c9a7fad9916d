"""Captioned scenes with exact maps, drawn on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cnctl.data.examples import Example
from cnctl.errors import CnctlError
from cnctl.tiny.reader import load_reader
from cnctl.tiny.scenes import exact_maps, render_scene
from cnctl.tiny.shapes import CLASSES


@dataclass(frozen=True)
class SceneDataset:
    """Captioned scenes with their exact maps, drawn when they are asked for.

    show: the class that every scene shows; None for any. first: seed of the first scene.
    """

    count: int
    size: int
    show: str | None = None
    first: int = 0

    ready_hints = 0

    @property
    def fingerprint(self) -> str:
        """The scenes are a function of their numbers and their size."""
        return f"scenes:{self.count}{f':{self.show}' if self.show else ''}@{self.size}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        scene = render_scene(self.first + index, size=self.size, show=self.show)
        return Example(scene.image, None, scene.prompt, exact_maps(scene))

    def image_size(self, index: int) -> tuple[int, int]:
        """Scenes are square."""
        return self.size, self.size

    def read(self, image: np.ndarray) -> Mapping[str, Any]:
        """The maps that a network sees in an RGB uint8 (H, W, 3) picture such as these."""
        return self._reader.read(image)

    @cached_property
    def _reader(self) -> Any:
        return load_reader()

    def name(self, index: int) -> str:
        """The scene's seed."""
        return f"scene {self.first + index}"


def check_class(name: str | None) -> str | None:
    """The name of a class that scenes show, or None; CnctlError at any other name."""
    if name is not None and name not in CLASSES:
        raise CnctlError(f"no scene shows a {name!r}", hint=f"scenes show {', '.join(CLASSES)}")
    return name
