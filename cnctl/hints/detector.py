"""Detectors as data workers need them: loaded where they are first used, and pickled by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.hints.run import augment_hint, draw_options, hint_from_maps, load_detector, read_ready
from cnctl.plugin import Condition
from cnctl.registry import get_condition


@dataclass
class HintMaker:
    """The condition's detector as data workers need it: loaded where it is used first."""

    condition: Condition
    device: str

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray | None:
        """The hint, with training options drawn from `rng`, or with the defaults for None."""
        if not hasattr(self, "_detect"):
            self._detect = load_detector(self.condition, device=self.device)
        return self._detect(image, **self._options(rng))

    def from_maps(
        self, maps: Mapping[str, Any], rng: np.random.Generator | None
    ) -> np.ndarray | None:
        """The same from what a renderer knows, for a condition that reads it."""
        return hint_from_maps(self.condition, maps, **self._options(rng))

    def _options(self, rng: np.random.Generator | None) -> Mapping[str, Any]:
        return {} if rng is None else draw_options(self.condition, rng)

    def augment(self, hint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The condition's random change of a hint."""
        return augment_hint(self.condition, hint, rng)

    def __reduce__(self) -> tuple[Any, ...]:
        """By name, for workers that are no forks; neither condition nor detector can be pickled."""
        return _hint_maker, (self.condition.name, self.device)


def _hint_maker(name: str, device: str) -> HintMaker:
    return HintMaker(get_condition(name), device)


@dataclass(frozen=True)
class HintReader:
    """Reads a file as a hint of the condition, here or in a data worker."""

    condition: Condition

    def __call__(self, source: Path | bytes) -> np.ndarray:
        """As `read_ready`."""
        return read_ready(self.condition, source)

    def __reduce__(self) -> tuple[Any, ...]:
        return _hint_reader, (self.condition.name,)


def _hint_reader(name: str) -> HintReader:
    return HintReader(get_condition(name))
