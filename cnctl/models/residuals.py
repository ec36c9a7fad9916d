"""What a ControlNet adds to a base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from cnctl.errors import CnctlError


@dataclass(frozen=True)
class EncodedHint:
    """A hint that has been through the hint encoder, as its network reads it: features (B, ...).

    scale: of the control, for networks in which it acts before the residuals too.
    """

    features: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class Residuals:
    """What a ControlNet adds, from its first block to its last.

    tensors: one for each link to the base: maps (B, C, h, w), or tokens (B, N, C) of a grid of
    rows and columns, with those of the prompt behind where the base reads both as one. A tensor
    without dimensions adds its value everywhere. blocks: for each tensor the blocks of the base,
    counted from 0, after which it is added; None where the links of the base are as many as the
    tensors.
    """

    tensors: tuple[Tensor, ...]
    grid: tuple[int, int] | None = None
    blocks: tuple[tuple[int, ...], ...] | None = None

    def scaled(self, scale: float | Sequence[float]) -> Residuals:
        """All of them by one number, or each by its own.

        Raises CnctlError when the number of scales is not the number of residuals.
        """
        count = len(self.tensors)
        scales = [float(scale)] * count if isinstance(scale, int | float) else list(scale)
        if len(scales) != count:
            raise CnctlError(
                f"{len(scales)} control scales for {count} residuals",
                hint=f"give one number, or {count}, from the first block to the last",
            )
        if all(one == 1 for one in scales):
            return self
        scaled = (r * s for r, s in zip(self.tensors, scales, strict=True))
        return replace(self, tensors=tuple(scaled))

    def within(self, region: Tensor) -> Residuals:
        """Each times the region, (1 or B, 1, H, W), at its own size: the mean of each place.

        Tokens that have no place count by the mean of the region.
        """
        return self._each(lambda residual: residual * self._fitted(region, residual))

    def on_second_half(self) -> Residuals:
        """For twice as many images: nothing for the first half, these for the second."""
        return self._each(lambda residual: torch.cat([torch.zeros_like(residual), residual]))

    def on_both_halves(self) -> Residuals:
        """For twice as many images: these for each half."""
        return self._each(lambda residual: torch.cat([residual, residual]))

    def by_block(self) -> dict[int, Tensor]:
        """What is added after each block of the base, by its number; needs `blocks`."""
        assert self.blocks is not None
        added: dict[int, Tensor] = {}
        for tensor, numbers in zip(self.tensors, self.blocks, strict=True):
            for number in numbers:
                added[number] = added[number] + tensor if number in added else tensor
        return added

    def __add__(self, other: Residuals) -> Residuals:
        if self.blocks == other.blocks:
            pairs = zip(self.tensors, other.tensors, strict=True)
            return replace(self, tensors=tuple(a + b for a, b in pairs))
        assert self.blocks is not None
        assert other.blocks is not None
        both = replace(
            self, tensors=self.tensors + other.tensors, blocks=self.blocks + other.blocks
        ).by_block()
        return replace(self, tensors=(*both.values(),), blocks=tuple((number,) for number in both))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Residuals:
        return replace(self, tensors=tuple(map(change, self.tensors)))

    def _fitted(self, region: Tensor, residual: Tensor) -> Tensor:
        if self.grid is None:
            return F.interpolate(region.to(residual), size=residual.shape[2:], mode="area")
        cells = F.interpolate(region.to(residual), size=self.grid, mode="area")
        cells = cells.flatten(2).transpose(1, 2)
        others = residual.shape[1] - cells.shape[1]
        return torch.cat([cells, cells.mean(1, keepdim=True).expand(-1, others, -1)], dim=1)
