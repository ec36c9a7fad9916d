"""Hints that a data set states in its own files: one map for each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath

from cnctl.errors import CnctlError, shown
from cnctl.hints.ready import Size, read_ground_truth
from cnctl.images import fit_image
from cnctl.plugin import Condition, Detection, OptionValue

ASPECT_TOLERANCE = 0.02


def map_of(condition: Condition, folder: Path, image: PurePath) -> Path:
    """The map of an image. image: its path below its folder, whose tree that of maps has, too."""
    known = condition.ground_truth
    assert known is not None, "the request was checked"
    if image.is_absolute() or ".." in image.parts:
        raise CnctlError(f"{shown(str(image))} is not below a folder, so it has no map")
    return folder / image.with_name(known.name.format(stem=image.stem, name=image.name))


def read_stated(
    condition: Condition,
    path: Path,
    *,
    sizes: tuple[Size, Size],
    options: Mapping[str, OptionValue],
) -> Detection:
    """The hint that a map states, at the size that is wanted.

    sizes: (height, width) of the image on disk, and of the hint. Nearest neighbour: maps hold
    labels, or pixels that are not known. CnctlError where it does not have the image's shape.
    """
    found = read_ground_truth(condition, path, sizes=sizes, options=options)
    rows, columns = found.hint.shape[:2]
    height, width = sizes[0]
    other_shape = abs(rows * width / (columns * height) - 1) > ASPECT_TOLERANCE
    if other_shape and (rows, columns) != sizes[1]:
        raise CnctlError(
            f"{shown(path)} is {columns} x {rows}, not the shape of its image",
            hint="keep maps in the same subfolders as the images",
        )
    return replace(found, hint=fit_image(found.hint, size=sizes[1], nearest=True))
