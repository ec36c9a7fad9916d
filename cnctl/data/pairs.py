"""Examples as training needs them: resized, with a hint, augmented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from cnctl.data.buckets import Size, nearest_size
from cnctl.data.examples import Dataset, Example
from cnctl.data.mirror import mirror_maps
from cnctl.data.scenes import SceneDataset
from cnctl.errors import CnctlError
from cnctl.images import cover, eight_bits, fit_pair

Detect = Callable[[np.ndarray, np.random.Generator | None], np.ndarray | None]
FromMaps = Callable[[Mapping[str, Any], np.random.Generator | None], np.ndarray | None]
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Mirror = Callable[[np.ndarray], np.ndarray]

MIDDLE = (0.5, 0.5)


@dataclass(frozen=True)
class Pair:
    """image: RGB uint8 (H, W, 3); hint: uint8 (H, W, C), of the same size.

    original: height and width before the image was scaled and cropped, None for its own; corner:
    top and left of the crop in the scaled image.
    """

    image: np.ndarray
    hint: np.ndarray
    prompt: str
    original: Size | None = None
    corner: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class TrainingPairs:
    """Pairs, made from their data set whenever they are loaded.

    sizes: (height, width) to choose from; a pair takes the one of nearest aspect. Image and hint
    are scaled to cover it and cropped alike, in the middle, or with `random_crop` anywhere.
    detect: (RGB uint8 (H, W, 3), generator) -> hint uint8 (H, W, C) or None. With a generator it
    draws its options at random, with None it uses its defaults.
    from_maps: the same for examples that include a renderer's maps, in place of `detect`.
    nearest: resize hints without new values (palettes).
    flip: mirror half of the images left to right, and their hints by `mirror`; where that is None
    a stored hint cannot be mirrored.
    """

    dataset: Dataset
    sizes: Sequence[Size]
    hint_channels: int
    detect: Detect
    from_maps: FromMaps | None = None
    augment: Augment | None = None
    nearest: bool = False
    flip: bool = False
    mirror: Mirror | None = None
    random_crop: bool = False

    def __len__(self) -> int:
        return len(self.dataset)

    def size(self, index: int) -> Size:
        """Return (height, width) of this pair; the image is not decoded."""
        if len(self.sizes) == 1:
            return self.sizes[0]
        try:
            return nearest_size(self.dataset.image_size(index), self.sizes)
        except CnctlError as error:
            raise _with_name(error, self.dataset.name(index)) from error

    def load(self, index: int, rng: np.random.Generator | None = None) -> Pair:
        """Return the pair of this index; what is random in it comes from `rng`, nothing with None.

        Where the detector finds nothing the hint is zero. Raises CnctlError that names the example.
        """
        try:
            example = self.dataset[index]
            if rng is not None and self.flip and rng.random() < 0.5:
                example = self._mirrored(example)
            original = example.image.shape[0], example.image.shape[1]
            size = nearest_size(original, self.sizes)
            at = MIDDLE
            if rng is not None and self.random_crop:
                at = rng.random(), rng.random()
            image, hint = fit_pair(
                example.image, example.hint, size=size, at=at, palette=self.nearest
            )
            if hint is None:
                hint = self._make_hint(example, image, at, rng)
            if rng is not None and self.augment is not None:
                hint = eight_bits(hint)
                hint = _checked(self.augment(hint, rng), like=hint, what="augmentation")
        except CnctlError as error:
            raise _with_name(error, self.dataset.name(index)) from error
        _, corner = cover(original, size=size, at=at)
        return Pair(image, hint, example.prompt, original, corner)

    def detect_again(self, image: np.ndarray) -> np.ndarray | None:
        """Return the hint of an image generated from one of these, RGB uint8 (H, W, 3)."""
        if isinstance(self.dataset, SceneDataset) and self.from_maps is not None:
            return self.from_maps(self.dataset.read(image), None)
        return self.detect(image, None)

    def _mirrored(self, example: Example) -> Example:
        """Return the example mirrored, with the hint that the condition then gives."""
        hint = example.hint
        if hint is not None:
            if self.mirror is None:
                raise CnctlError(
                    "a stored hint of this condition cannot be mirrored",
                    hint="leave out --flip, or remove the hints so that they are detected",
                )
            hint = _checked(self.mirror(hint), like=hint, what="flip")
        maps = example.maps and mirror_maps(example.maps)
        return replace(example, image=example.image[:, ::-1], hint=hint, maps=maps)

    def _make_hint(
        self,
        example: Example,
        image: np.ndarray,
        at: tuple[float, float],
        rng: np.random.Generator | None,
    ) -> np.ndarray:
        """Return the hint of an example without one; image: as it is trained on."""
        if example.maps is not None and self.from_maps is not None:
            whole = self.from_maps(example.maps, rng)
            size = image.shape[:2]
            _, hint = fit_pair(example.image, whole, size=size, at=at, palette=self.nearest)
        else:
            hint = self.detect(image, rng)
        return np.zeros((*image.shape[:2], self.hint_channels), np.uint8) if hint is None else hint


@dataclass(frozen=True)
class Selection:
    """Some of the pairs, numbered from 0."""

    pairs: TrainingPairs
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def groups(self) -> np.ndarray:
        """Return the index of each pair's size, (N,); CnctlError where an image cannot be read."""
        sizes = list(self.pairs.sizes)
        return np.array([sizes.index(self.pairs.size(index)) for index in self.indices], np.int32)

    @property
    def sizes(self) -> Counter[Size]:
        """(height, width) -> how many pairs have this size."""
        return Counter(self.pairs.sizes[group] for group in self.groups.tolist())

    def load(self, index: int, rng: np.random.Generator | None = None) -> Pair:
        """Return a pair, as `TrainingPairs.load` does."""
        return self.pairs.load(self.indices[index], rng)

    def name(self, index: int) -> str:
        """Return what to call the example in a message."""
        return self.pairs.dataset.name(self.indices[index])


def _checked(changed: np.ndarray, *, like: np.ndarray, what: str) -> np.ndarray:
    if changed.dtype != like.dtype or changed.shape != like.shape:
        raise CnctlError(
            f"the {what} returned {changed.dtype} {changed.shape} "
            f"for a hint {like.dtype} {like.shape}",
            hint="this is a bug of the condition's plugin: report it to its authors",
        )
    return changed


def _with_name(error: CnctlError, name: str) -> CnctlError:
    if name in str(error):
        return error
    return type(error)(f"{name}: {error}", hint=error.hint)
