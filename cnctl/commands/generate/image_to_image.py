"""`--image`, `--mask` and `--strength` in `cnctl generate`: an image to edit, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnctl.commands.generate.pictures import Pictures
from cnctl.errors import CnctlError, shown
from cnctl.images import fit_image, read_mask, working_size

if TYPE_CHECKING:
    from cnctl.sampling.image_to_image import Edit

STRENGTH = 0.8
"""Default without a mask; with one it is 1, so that the masked part starts from noise alone."""


@dataclass(frozen=True, kw_only=True)
class ImageToEdit:
    """An image to edit.

    picture: RGB uint8 (H, W, 3). mask: bool (H, W), True where it may change.
    """

    path: Path
    picture: np.ndarray
    mask_path: Path | None
    mask: np.ndarray | None
    strength: float

    def size(self, resolution: int, *, multiple: int) -> tuple[int, int]:
        """The working size, (height, width)."""
        return working_size(*self.picture.shape[:2], resolution=resolution, multiple=multiple)

    def fitted(self, size: tuple[int, int]) -> Edit:
        """The edit at this working size."""
        from cnctl.sampling.image_to_image import Edit  # imports torch, which takes seconds

        mask = None if self.mask is None else _fit_mask(self.mask, size)[None]
        return Edit(fit_image(self.picture, size=size)[None], mask, self.strength)

    def hint(self, size: tuple[int, int]) -> np.ndarray | None:
        """The hint of an inpainting condition, uint8 (h, w, 4); None without a mask."""
        if self.mask is None:
            return None
        kept = np.where(_fit_mask(self.mask, size), np.uint8(0), np.uint8(255))
        return np.dstack([fit_image(self.picture, size=size), kept])

    def paste(self, made: np.ndarray) -> np.ndarray:
        """The result; with a mask, the image, with `made` in it where the mask is True."""
        if self.mask is None:
            return made
        whole = fit_image(made, size=self.picture.shape[:2])
        return np.where(self.mask[..., None], whole, self.picture)


def check_edit(image: Path | str | None, mask: Path | str | None, strength: float | None) -> None:
    """Raise CnctlError where a mask or a strength is given without an image to edit."""
    if image is None and (mask is not None or strength is not None):
        flag = "--mask" if mask is not None else "--strength"
        raise CnctlError(
            f"{flag} is for an image to edit", hint='name it with --image, or as "edit" in a job'
        )


def read_edit(
    image: Path | str | None,
    mask: Path | str | None,
    strength: float | None,
    *,
    pictures: Pictures,
) -> ImageToEdit | None:
    """Read the image, the mask and the strength; None where no image is given."""
    if image is None:
        return None
    if strength is None:
        strength = STRENGTH if mask is None else 1.0
    picture = pictures.photograph(Path(image))
    mask_path = None if mask is None else Path(mask)
    return ImageToEdit(
        path=Path(image),
        picture=picture,
        mask_path=mask_path,
        mask=None if mask_path is None else _read_mask(mask_path, picture.shape[:2]),
        strength=strength,
    )


def _read_mask(path: Path, size: Sequence[int]) -> np.ndarray:
    """True where the mask is white: bool (H, W)."""
    mask = read_mask(path) > 0.5
    if mask.shape != tuple(size):
        raise CnctlError(
            f"the mask {shown(path)} has {mask.shape[1]}x{mask.shape[0]} pixels, "
            f"the image {size[1]}x{size[0]}",
            hint="give a mask of the image's size",
        )
    if not mask.any():
        raise CnctlError(
            f"the mask {shown(path)} is below half everywhere, so nothing may change",
            hint="paint white where the image is to change",
        )
    return mask


def _fit_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask at another size; a pixel may change where any part of it may."""
    return fit_image(mask.astype(np.float32), size=size) > 1e-3
