"""What each control of a run reads, and the hints that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import numpy as np

from cnctl.commands.generate.controls import Branch, read_region
from cnctl.commands.generate.image_to_image import EditedImage
from cnctl.commands.generate.pictures import Pictures
from cnctl.commands.generate.request import ControlSpec
from cnctl.commands.shared.failures import Failures
from cnctl.errors import CnctlError, shown
from cnctl.images import SUFFIXES, Resize, fit_hint, fit_image, read_size, working_size
from cnctl.plugin import Condition
from cnctl.settings import GenerateSettings

ASPECT = 1.1
"""Change of aspect that is worth a note; rounding to multiples of 8 makes small ones."""


def check_sources(
    controls: Sequence[ControlSpec],
    conditions: Sequence[Condition],
    images: Sequence[Path | None],
    *,
    ready: bool,
    pictures: Pictures,
    failures: Failures,
) -> None:
    """Read every input before anything slow happens: an unreadable one is reported at once.

    ready: all sources are hints.
    """

    def read(number: int, source: Path) -> None:
        is_ready = ready or controls[number].ready
        pictures.hint(conditions[number], source) if is_ready else pictures.photograph(source)

    for number, control in enumerate(controls):
        read_region(control.region)
        if control.source and not Path(control.source).is_dir():
            read(number, Path(control.source))
    for image in images:
        with failures.of(image) if image else nullcontext():
            for number, control in enumerate(controls):
                if source := source_of(control, image):
                    read(number, source)


def source_of(control: ControlSpec, image: Path | None) -> Path | None:
    """What a control reads for an image: its own source, the file of that name in it, or the image.

    A hint may be called as the image is, or with "-CONDITION" or "-hint" behind. Where several are
    called so, the one whose folders are called as the image's counts.
    """
    if control.source is None:
        return image
    source = Path(control.source)
    if not source.is_dir():
        return source
    if image is None:
        raise CnctlError(
            f"{shown(source)} is a folder", hint="name the images whose hints it holds, or a file"
        )
    ends = ("", f"-{control.condition}", "-hint", f"-{control.condition}-hint")
    named = _files_in(source, [f"{image.stem}{end}" for end in ends])
    found = [path for path in named if path.parent.parts[-1:] == image.parent.parts[-1:]] or named
    if len(found) != 1:
        what = "several files" if found else "no file"
        raise CnctlError(f"{shown(source)} has {what} called as {shown(image.name)} is")
    return found[0]


def _files_in(folder: Path, stems: Sequence[str]) -> list[Path]:
    """Files below a folder that are called so but for their suffix."""
    found = sorted(path for path in folder.rglob("[!.]*") if path.stem in stems and path.is_file())
    return sorted(found, key=lambda path: stems.index(path.stem))


def list_sources(branches: Sequence[Branch], image: Path | None) -> list[Path]:
    """What each control reads."""
    return [source for branch in branches if (source := source_of(branch.spec, image))]


def make_hints(
    branches: Sequence[Branch],
    image: Path | None,
    *,
    pictures: Pictures,
    settings: GenerateSettings,
    size: tuple[int, int] | None = None,
    edited: EditedImage | None = None,
) -> tuple[list[np.ndarray], list[Path]]:
    """One hint per branch, uint8 (h, w, C), all of one working size; and their sources.

    The size is (height, width) if given, else the edited image's, else the first source's, its
    short side the resolution of the settings. What is masked in an edited image is
    the mask of conditions whose hints have one, unless they have a source of their own.
    """
    sources = list_sources(branches, image)
    if edited:
        size = size or edited.size(settings.resolution)
    hints = []
    for branch, source in zip(branches, sources, strict=True):
        hint = None
        if edited and size and branch.condition.masked and source == edited.path:
            hint = edited.hint(size)
        if hint is None:
            hint = _make_hint(branch, source, pictures=pictures, size=size, settings=settings)
        size = size or hint.shape[:2]
        hints.append(hint)
    return hints, sources


def _make_hint(
    branch: Branch,
    source: Path,
    *,
    pictures: Pictures,
    size: tuple[int, int] | None,
    settings: GenerateSettings,
) -> np.ndarray:
    """A hint, uint8 (h, w, C), of this size; None for the one that suits the source."""
    ready = branch.ready
    picture = pictures.hint(branch.condition, source) if ready else pictures.photograph(source)
    size = size or working_size(*picture.shape[:2], resolution=settings.resolution)
    resize = cast(Resize, settings.resize)
    if ready:
        palette = bool(branch.condition.palette)
        return fit_hint(picture, size=size, resize=resize, palette=palette)
    return _detect(branch, fit_image(picture, size=size, resize=resize), source)


def note_other_aspects(
    sources: Sequence[Path],
    hints: Sequence[np.ndarray],
    settings: GenerateSettings,
    *,
    note: Callable[[str], None],
) -> None:
    """Say which sources have another aspect than the images that are made."""
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
    """Say which hints have one value everywhere."""
    for hint, source in zip(hints, sources, strict=True):
        if np.ptp(hint) == 0:
            note(f"{source}: the hint is empty, so it controls nothing; try other options")


def _detect(branch: Branch, image: np.ndarray, source: Path) -> np.ndarray:
    hint = branch.detect(image, **branch.options)
    if hint is None:
        raise CnctlError(
            f"{branch.condition.name} found nothing in {source}",
            hint="draw a hint and pass it with --hint",
        )
    return hint
