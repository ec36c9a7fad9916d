"""Run a condition's detector and its other functions, each behind the check of its contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnctl.errors import CnctlError
from cnctl.hints.contract import blame, check_detection, check_hint, check_image
from cnctl.hints.files import open_detector
from cnctl.hints.options import check_options
from cnctl.plugin import BatchDetector, Condition, Detection, OptionValue


def load_detector(
    condition: Condition, *, device: str = "cpu", commercial: bool | None = None
) -> Callable[..., np.ndarray | None]:
    """The condition's detector behind a check of its contract.

    Returns detect(image, **options) -> hint | None. image: upright RGB uint8 (H, W, 3), never
    changed. hint: a new uint8 (H, W, stored_channels). None: nothing found. Options not given take
    their defaults. Whatever the plugin raises becomes a CnctlError that names it.
    commercial: refuse weights not licensed for commercial use; None asks CNCTL_COMMERCIAL.
    """
    find = load_detections(condition, device=device, commercial=commercial)

    def detect(image: np.ndarray, **options: OptionValue) -> np.ndarray | None:
        found = find(image, **options)
        return None if found is None else found.hint

    return detect


def load_detections(
    condition: Condition, *, device: str = "cpu", commercial: bool | None = None
) -> LoadedDetector:
    """As `load_detector`, with the data that a hint was drawn from beside each hint."""
    with blame(condition, "could not be loaded"):
        raw = open_detector(condition, device, commercial=commercial)
    return LoadedDetector(condition, raw)


@dataclass(frozen=True)
class LoadedDetector:
    """A plugin's detector, behind the check of its contract that `load_detector` describes."""

    condition: Condition
    raw: Callable[..., Any]

    @property
    def takes_many(self) -> bool:
        """Whether the detector takes several images in one call."""
        return isinstance(self.raw, BatchDetector)

    def __call__(self, image: np.ndarray, **options: OptionValue) -> Detection | None:
        """The hint of one image and its data; None where nothing is found."""
        return self.batch([image], **options)[0]

    def batch(self, images: Sequence[np.ndarray], **options: OptionValue) -> list[Detection | None]:
        """The hint of each of these images of one size and its data."""
        for image in images:
            check_image(self.condition, image)
        complete = check_options(self.condition, options)
        with blame(self.condition, "failed on this image"):
            if isinstance(self.raw, BatchDetector) and len(images) > 1:
                found = list(self.raw.batch(np.stack(images), **complete))
            else:
                found = [self.raw(image.copy(), **complete) for image in images]
        if len(found) != len(images):
            raise CnctlError(
                f"condition {self.condition.name!r} returned {len(found)} hints for "
                f"{len(images)} images",
                hint="this is a bug of the plugin: report it to its authors",
            )
        size = images[0].shape[:2]
        return [f if f is None else check_detection(self.condition, f, size=size) for f in found]


def hint_from_maps(
    condition: Condition, maps: Mapping[str, Any], **options: OptionValue
) -> np.ndarray | None:
    """The hint of a rendered picture, see `Condition.from_maps`; None where it is empty."""
    if condition.from_maps is None:
        raise CnctlError(
            f"{condition.name} does not read a renderer's maps", hint="give it an image"
        )
    with blame(condition, "failed on these maps"):
        hint = condition.from_maps(maps, **check_options(condition, options))
    return None if hint is None else check_hint(condition, hint, size=maps["image"].shape[:2])


def draw_options(condition: Condition, rng: np.random.Generator) -> Mapping[str, OptionValue]:
    """The options that the condition draws at random for a training image; {} if it draws none."""
    if condition.training_options is None:
        return {}
    with blame(condition, "could not draw training options"):
        return dict(condition.training_options(rng))


def augment_hint(condition: Condition, hint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The hint after the condition's random change; what it returns is not checked."""
    assert condition.augment is not None
    with blame(condition, "could not augment a hint"):
        return condition.augment(hint, rng)
