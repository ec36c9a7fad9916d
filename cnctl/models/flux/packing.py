"""FLUX.1's tokens: 2x2 latents each, and their places for its rotary embedding."""

from __future__ import annotations

import torch
from torch import Tensor

SIDE = 2
"""Latents per token, along a side."""


def pack(latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) to tokens (B, h w / 4, 4 C)."""
    b, c, h, w = latents.shape
    cells = latents.reshape(b, c, h // SIDE, SIDE, w // SIDE, SIDE)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * SIDE**2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens (B, h w / 4, 4 C) to latents (B, C, h, w) of this height and width."""
    cells = tokens.reshape(len(tokens), height // SIDE, width // SIDE, -1, SIDE, SIDE)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)


def image_ids(latents: Tensor) -> Tensor:
    """The places of the tokens of latents (B, C, h, w): float (h w / 4, 3) of 0, row, column."""
    rows, columns = (torch.arange(side // SIDE) for side in latents.shape[2:])
    places = torch.cartesian_prod(rows, columns)
    return torch.nn.functional.pad(places, (1, 0)).to(latents.device, latents.dtype)


def text_ids(tokens: Tensor) -> Tensor:
    """The places of text (B, L, D): zeros (L, 3)."""
    return tokens.new_zeros(tokens.shape[1], 3)
