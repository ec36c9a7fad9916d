"""Captioned scenes with exact maps, drawn when they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cnctl.data.examples import Example
from cnctl.errors import CnctlError
from cnctl.tiny.scenes import exact_maps, render_scene
from cnctl.tiny.shapes import CLASSES


@dataclass(frozen=True)
class SceneDataset:
    """Captioned scenes with their exact maps, drawn when they are read.

    show: the class that every scene shows; None for any. first: seed of the first scene.
    """

    count: int
    size: int
    show: str | None = None
    first: int = 0

    ready_hints = 0
    problems = ()

    @property
    def ready_prompts(self) -> int:
        """How many examples include a prompt: all."""
        return self.count

    @property
    def fingerprint(self) -> str:
        """The number and size of the scenes, which determine them."""
        return f"scenes:{self.count}{f':{self.show}' if self.show else ''}@{self.size}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        scene = render_scene(self.first + index, size=self.size, show=self.show)
        return Example(scene.image, None, scene.prompt, exact_maps(scene))

    def prompt(self, index: int) -> str:
        """Return the prompt alone; the scene is drawn for it."""
        return self[index].prompt

    def image_size(self, index: int) -> tuple[int, int]:
        """Return (height, width); scenes are square."""
        return self.size, self.size

    def read(self, image: np.ndarray) -> Mapping[str, Any]:
        """Return the maps that a network reads in an RGB uint8 (H, W, 3) image of such a scene."""
        return self._reader.read(image)

    @cached_property
    def _reader(self) -> Any:
        from cnctl.tiny.reader import load_reader  # imports torch, which takes seconds

        return load_reader()

    def name(self, index: int) -> str:
        """Return the scene's seed."""
        return f"scene {self.first + index}"


def check_class(name: str | None) -> str | None:
    """Return the name if scenes show such a class, or it is None; else raise CnctlError."""
    if name is not None and name not in CLASSES:
        raise CnctlError(f"no scene shows a {name!r}", hint=f"scenes show {', '.join(CLASSES)}")
    return name
