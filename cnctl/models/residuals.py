"""What a ControlNet adds to a base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

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
class TokenResidual:
    """A residual that depends on the tokens (B, N, C) that it is added to.

    read(tokens): what is added. `tokens + residual` adds it, so that a base that adds tensors to
    its tokens takes this in place of one.
    """

    read: Callable[[Tensor], Tensor]

    def __radd__(self, tokens: Tensor) -> Tensor:
        return tokens + self.read(tokens)

    def __mul__(self, scale: float) -> TokenResidual:
        return self.then(lambda residual: residual * scale)

    def to(self, target: torch.dtype | torch.device) -> TokenResidual:
        """The same in this dtype, or on this device."""
        return self.then(lambda residual: residual.to(target))

    def then(self, change: Callable[[Tensor], Tensor]) -> TokenResidual:
        """The same with what is added changed."""
        return TokenResidual(lambda tokens: change(self.read(tokens)))

    def on_second_half(self) -> TokenResidual:
        """For tokens of twice as many images: nothing is added to the first half."""
        return TokenResidual(lambda tokens: _on_second_half(self.read(tokens.chunk(2)[1])))

    def on_both_halves(self) -> TokenResidual:
        """For tokens of twice as many images: each half is read by itself."""
        return TokenResidual(lambda tokens: torch.cat([*map(self.read, tokens.chunk(2))]))


Residual: TypeAlias = Tensor | TokenResidual


@dataclass(frozen=True)
class Residuals:
    """What a ControlNet adds, from its first block to its last.

    tensors: one for each link to the base: maps (B, C, h, w), or tokens (B, N, C) of a grid of
    rows and columns, with those of the prompt behind where the base reads both as one. A tensor
    without dimensions adds its value everywhere. A `TokenResidual` stands for tokens that depend
    on the base's. blocks: for each tensor the blocks of the base, counted from 0, after which it is
    added; None where each link of the base has one tensor.
    """

    tensors: tuple[Residual, ...]
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
        return self.then(lambda residual: residual * self._fitted(region, residual))

    def then(self, change: Callable[[Tensor], Tensor]) -> Residuals:
        """Each changed."""
        return self._each(change, lambda residual: residual.then(change))

    def on_second_half(self) -> Residuals:
        """For twice as many images: nothing for the first half, these for the second."""
        return self._each(_on_second_half, TokenResidual.on_second_half)

    def on_both_halves(self) -> Residuals:
        """For twice as many images: these for each half."""
        return self._each(lambda r: torch.cat([r, r]), TokenResidual.on_both_halves)

    def by_block(self) -> dict[int, Residual]:
        """What is added after each block of the base, by its number; needs `blocks`."""
        assert self.blocks is not None
        added: dict[int, Residual] = {}
        for tensor, numbers in zip(self.tensors, self.blocks, strict=True):
            for number in numbers:
                added[number] = _sum(added[number], tensor) if number in added else tensor
        return added

    def __add__(self, other: Residuals) -> Residuals:
        if self.blocks == other.blocks:
            pairs = zip(self.tensors, other.tensors, strict=True)
            return replace(self, tensors=tuple(_sum(a, b) for a, b in pairs))
        assert self.blocks is not None
        assert other.blocks is not None
        both = replace(
            self, tensors=self.tensors + other.tensors, blocks=self.blocks + other.blocks
        ).by_block()
        return replace(self, tensors=(*both.values(),), blocks=tuple((number,) for number in both))

    def _each(
        self,
        change: Callable[[Tensor], Tensor],
        of_tokens: Callable[[TokenResidual], TokenResidual],
    ) -> Residuals:
        changed = (change(r) if isinstance(r, Tensor) else of_tokens(r) for r in self.tensors)
        return replace(self, tensors=tuple(changed))

    def _fitted(self, region: Tensor, residual: Tensor) -> Tensor:
        if self.grid is None:
            return F.interpolate(region.to(residual), size=residual.shape[2:], mode="area")
        cells = F.interpolate(region.to(residual), size=self.grid, mode="area")
        cells = cells.flatten(2).transpose(1, 2)
        others = residual.shape[1] - cells.shape[1]
        return torch.cat([cells, cells.mean(1, keepdim=True).expand(-1, others, -1)], dim=1)


def _on_second_half(residual: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(residual), residual])


def _sum(a: Residual, b: Residual) -> Residual:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a + b
    return TokenResidual(lambda tokens: _at(a, tokens) + _at(b, tokens))


def _at(residual: Residual, tokens: Tensor) -> Tensor:
    return residual if isinstance(residual, Tensor) else residual.read(tokens)
