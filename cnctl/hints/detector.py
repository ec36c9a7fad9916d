"""A condition's detector as commands hold it: loaded at its first use, and pickled by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.hints.ready import read_ready
from cnctl.hints.run import (
    LoadedDetector,
    augment_hint,
    draw_options,
    hint_from_maps,
    load_detections,
)
from cnctl.plugin import Condition, Detection, OptionValue
from cnctl.registry import get_condition

Options = Mapping[str, OptionValue]


@dataclass
class Detector:
    """The detector of a condition. Its weights are read when it is first used, or by `load`.

    Pickled as the condition's name and the other fields, for data workers that are not forks.
    commercial: refuse weights not licensed for commercial use; None asks CNCTL_COMMERCIAL.
    """

    condition: Condition
    _: KW_ONLY
    device: str = "cpu"
    commercial: bool | None = None

    def __call__(
        self, image: np.ndarray, rng: np.random.Generator | None = None, /, **options: OptionValue
    ) -> np.ndarray | None:
        """The hint, uint8 (H, W, stored_channels), of an RGB uint8 (H, W, 3); None where empty.

        Options that are not given are drawn by `rng` as for training; for None they take their
        defaults.
        """
        found = self._loaded(image, **self._options(rng, options))
        return None if found is None else found.hint

    def batch(
        self, images: Sequence[np.ndarray], /, **options: OptionValue
    ) -> list[Detection | None]:
        """The hints of these images of one size, in one call if the detector takes several."""
        return self._loaded.batch(images, **options)

    def from_maps(
        self,
        maps: Mapping[str, Any],
        rng: np.random.Generator | None = None,
        /,
        **options: OptionValue,
    ) -> np.ndarray | None:
        """The hint from a renderer's maps, for a condition that reads them; nothing is loaded."""
        return hint_from_maps(self.condition, maps, **self._options(rng, options))

    def augment(self, hint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The hint after the condition's random change for training."""
        return augment_hint(self.condition, hint, rng)

    def load(self) -> LoadedDetector:
        """The detector in memory; MissingError where its weights are not installed."""
        return self._loaded

    @cached_property
    def _loaded(self) -> LoadedDetector:
        return load_detections(self.condition, device=self.device, commercial=self.commercial)

    def _options(self, rng: np.random.Generator | None, given: Options) -> Options:
        return given if rng is None else {**draw_options(self.condition, rng), **given}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it by name, since neither a condition nor its network can be pickled."""
        return _detector, (self.condition.name, self.device, self.commercial)


def _detector(name: str, device: str, commercial: bool | None) -> Detector:
    return Detector(get_condition(name), device=device, commercial=commercial)


@dataclass(frozen=True)
class HintReader:
    """Reads a file as a hint of the condition, here or in a data worker."""

    condition: Condition

    def __call__(self, source: Path | bytes) -> np.ndarray:
        """The hint in this file, as `read_ready` returns it."""
        return read_ready(self.condition, source)

    def __reduce__(self) -> tuple[Any, ...]:
        return _hint_reader, (self.condition.name,)


def _hint_reader(name: str) -> HintReader:
    return HintReader(get_condition(name))
