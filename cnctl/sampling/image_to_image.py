"""Starting from an image, not from noise alone: image to image, masked diffusion (figure 16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.latents import encode_images
from cnctl.models.process import Process


@dataclass(frozen=True)
class Edit:
    """An image to start from, and the part of it that may change.

    images: uint8 (1 or B, H, W, 3). mask: bool (1 or B, H, W), True where it may change; None for
    everywhere. strength: in (0, 1], the share of the noise schedule that the run begins at; at 1
    what is masked starts from noise alone.
    """

    images: np.ndarray
    mask: np.ndarray | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class LatentEdit:
    """The same among latents. original: (B, C, h, w); mask: float (1 or B, 1, h, w) or None."""

    original: Tensor
    mask: Tensor | None
    strength: float

    def start(self, process: Process, schedule: Any, noise: Tensor, timestep: Tensor) -> Tensor:
        """The latents that denoising begins with at this timestep."""
        if self.mask is not None and self.strength == 1:
            return process.start(schedule, noise)
        return process.noised(schedule, self.original, noise, timestep[None])

    def keep(
        self, process: Process, schedule: Any, latents: Tensor, noise: Tensor, upcoming: Tensor
    ) -> Tensor:
        """The latents, and outside of the mask the original as noisy as the next timestep has it.

        upcoming: the timesteps that are still to come.
        """
        if self.mask is None:
            return latents
        kept = self.original
        if len(upcoming):
            kept = process.noised(schedule, kept, noise, upcoming[:1])
        return (1 - self.mask) * kept + self.mask * latents


def check_edit(edit: Edit, count: int, *, height: int, width: int) -> None:
    """Raise CnctlError where an edit does not fit `count` images of this size."""
    if not 0 < edit.strength <= 1:
        raise CnctlError(f"strength {edit.strength}", hint="give more than 0, and at most 1")
    shapes = [edit.images.shape[:3]] + ([] if edit.mask is None else [edit.mask.shape])
    for shape in shapes:
        if shape[0] not in (1, count) or tuple(shape[1:]) != (height, width):
            raise CnctlError(
                f"an image or mask of shape {shape} to edit {count} image(s) of {width}x{height}",
                hint=f"give (1 or {count}, {height}, {width})",
            )


def encode_edit(base: Base, edit: Edit, generators: list[torch.Generator]) -> LatentEdit:
    """Encode it, the autoencoder's randomness drawn by each image's own generator.

    A latent may change where any of its pixels may, so that no thin mask is lost.
    """
    images = np.repeat(edit.images, len(generators) // len(edit.images), axis=0)
    # One at a time, so that batches agree.
    parts = [
        encode_images(base, image[None], generator=generator)
        for image, generator in zip(images, generators, strict=True)
    ]
    original = torch.cat(parts)
    mask = None
    if edit.mask is not None:
        pixels = torch.from_numpy(edit.mask)[:, None].float()
        mask = F.max_pool2d(pixels, base.latent_factor).to(base.device)
    return LatentEdit(original, mask, edit.strength)
