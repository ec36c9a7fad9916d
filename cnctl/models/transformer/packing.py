"""Latents as tokens of 2x2 each, as FLUX.1 and Qwen-Image read them."""

from __future__ import annotations

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
