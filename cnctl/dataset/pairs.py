"""Examples as training needs them: one size, with a hint, augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnctl.dataset.examples import Dataset, Example, SceneDataset
from cnctl.errors import CnctlError
from cnctl.images import eight_bits, fit_image

Detect = Callable[[np.ndarray, np.random.Generator | None], np.ndarray | None]
FromMaps = Callable[[Mapping[str, Any], np.random.Generator | None], np.ndarray | None]
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """image: RGB uint8 (H, W, 3); hint: uint8 (H, W, C), of the same size."""

    image: np.ndarray
    hint: np.ndarray
    prompt: str


@dataclass(frozen=True, kw_only=True)
class TrainingPairs:
    """Pairs of one size, made anew from their dataset each time they are asked for.

    size: (height, width); image and hint keep their aspect and are cut alike.
    detect: (RGB uint8 (H, W, 3), generator) -> hint uint8 (H, W, C) or None. Given a generator it
    draws its options at random, given None it uses its defaults.
    from_maps: the same for examples that come with a renderer's maps, in place of `detect`.
    nearest: resize hints without inventing values (palettes).
    """

    dataset: Dataset
    size: tuple[int, int]
    hint_channels: int
    detect: Detect
    from_maps: FromMaps | None = None
    augment: Augment | None = None
    nearest: bool = False

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int, rng: np.random.Generator | None = None) -> Pair:
        """The pair of this number; all that is random in it comes from `rng`, None means nothing.

        Where the detector finds nothing the hint is zero. Raises CnctlError that names the example.
        """
        try:
            example = self.dataset[index]
            image = fit_image(example.image, size=self.size, resize="crop")
            hint = self._hint(example, image, rng)
            if rng is not None and self.augment is not None:
                hint = eight_bits(hint)
                hint = _checked(self.augment(hint, rng), like=hint)
        except CnctlError as error:
            raise _with_name(error, self.dataset.name(index)) from error
        return Pair(image, hint, example.prompt)

    def detect_again(self, image: np.ndarray) -> np.ndarray | None:
        """The hint in a picture that was generated from one of these, RGB uint8 (H, W, 3)."""
        if isinstance(self.dataset, SceneDataset) and self.from_maps is not None:
            return self.from_maps(self.dataset.read(image), None)
        return self.detect(image, None)

    def _hint(
        self, example: Example, image: np.ndarray, rng: np.random.Generator | None
    ) -> np.ndarray:
        if example.hint is not None:
            return fit_image(example.hint, size=self.size, resize="crop", nearest=self.nearest)
        if example.maps is not None and self.from_maps is not None:
            hint = self.from_maps(example.maps, rng)
        else:
            hint = self.detect(image, rng)
        return np.zeros((*self.size, self.hint_channels), np.uint8) if hint is None else hint


@dataclass(frozen=True)
class Selection:
    """Some of the pairs, numbered anew from 0."""

    pairs: TrainingPairs
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int, rng: np.random.Generator | None = None) -> Pair:
        """As `TrainingPairs.load`."""
        return self.pairs.load(self.indices[index], rng)

    def name(self, index: int) -> str:
        """What to call the example in a message."""
        return self.pairs.dataset.name(self.indices[index])


def _checked(augmented: np.ndarray, *, like: np.ndarray) -> np.ndarray:
    if augmented.dtype != like.dtype or augmented.shape != like.shape:
        raise CnctlError(
            f"the augmentation returned {augmented.dtype} {augmented.shape} "
            f"for a hint {like.dtype} {like.shape}",
            hint="this is a fault of the condition's plugin: tell its authors",
        )
    return augmented


def _with_name(error: CnctlError, name: str) -> CnctlError:
    if name in str(error):
        return error
    return type(error)(f"{name}: {error}", hint=error.hint)
