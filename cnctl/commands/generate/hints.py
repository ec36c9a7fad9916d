"""The hints of a run, made from what its controls read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from cnctl.commands.generate.image_to_image import ImageToEdit
from cnctl.commands.generate.loaded_controls import LoadedControl
from cnctl.commands.generate.pictures import Pictures
from cnctl.commands.generate.sources import list_sources
from cnctl.errors import CnctlError
from cnctl.images import SUFFIXES, Resize, fit_hint, fit_image, read_size, working_size
from cnctl.settings import GenerateSettings

ASPECT = 1.1
"""Change of the aspect ratio that is reported; rounding to multiples of 8 makes small ones."""


def make_hints(
    controls: Sequence[LoadedControl],
    image: Path | None,
    *,
    pictures: Pictures,
    settings: GenerateSettings,
    multiple: int,
    size: tuple[int, int] | None = None,
    to_edit: ImageToEdit | None = None,
) -> tuple[list[np.ndarray], list[Path]]:
    """One hint for each control, uint8 (h, w, C), all of one working size; and their sources.

    The size is (height, width) if given, else the image to edit's, else the first source's, its
    short side the resolution of the settings, both sides multiples of `multiple`. What is masked in
    an image to edit is the mask of conditions whose hints have one, unless they have their own
    source.
    """
    sources = list_sources(controls, image)
    if to_edit:
        size = size or to_edit.size(settings.resolution, multiple=multiple)
    hints = []
    for control, source in zip(controls, sources, strict=True):
        hint = None
        if to_edit and size and control.condition.masked and source == to_edit.path:
            hint = to_edit.hint(size)
        if hint is None:
            picture = _read(control, source, pictures)
            size = size or working_size(
                *picture.shape[:2], resolution=settings.resolution, multiple=multiple
            )
            hint = _make_hint(control, picture, source, size=size, settings=settings)
        hints.append(hint)
    return hints, sources


def _read(control: LoadedControl, source: Path, pictures: Pictures) -> np.ndarray:
    """What a control reads: a hint (H, W, C), or a photograph to detect one in."""
    if control.ready:
        return pictures.hint(control.condition, source)
    return pictures.photograph(source)


def _make_hint(
    control: LoadedControl,
    picture: np.ndarray,
    source: Path,
    *,
    size: tuple[int, int],
    settings: GenerateSettings,
) -> np.ndarray:
    """A hint, uint8 (h, w, C). size: (height, width)."""
    resize = cast(Resize, settings.resize)
    if control.ready:
        palette = bool(control.condition.palette)
        return fit_hint(picture, size=size, resize=resize, palette=palette)
    return _detect(control, fit_image(picture, size=size, resize=resize), source)


def note_other_aspects(
    sources: Sequence[Path],
    hints: Sequence[np.ndarray],
    settings: GenerateSettings,
    *,
    note: Callable[[str], None],
) -> None:
    """Report which sources have another aspect ratio than the images that are made."""
    for source, hint in zip(sources, hints, strict=True):
        if source.suffix.lower() not in SUFFIXES:
            continue
        height, width = read_size(source)
        change = (hint.shape[1] / hint.shape[0]) / (width / height)
        if not 1 / ASPECT < change < ASPECT:
            done = {"stretch": "stretched", "crop": "cropped", "fill": "filled up"}[settings.resize]
            note(
                f"{source} has {width}x{height} pixels and is {done} to "
                f"{hint.shape[1]}x{hint.shape[0]}; --resize stretch, crop or fill decides"
            )


def note_dead_hints(
    hints: Sequence[np.ndarray], sources: Sequence[Path], note: Callable[[str], None]
) -> None:
    """Report which hints have one value everywhere."""
    for hint, source in zip(hints, sources, strict=True):
        if np.ptp(hint) == 0:
            note(f"{source}: the hint is empty, so it controls nothing; try other options")


def _detect(control: LoadedControl, image: np.ndarray, source: Path) -> np.ndarray:
    hint = control.detect(image, **control.options)
    if hint is None:
        raise CnctlError(
            f"{control.condition.name} found nothing in {source}",
            hint="draw a hint and pass it with --hint",
        )
    return hint
