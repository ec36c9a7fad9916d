"""The places of tokens, for FLUX.1's rotary embedding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnctl.models.transformer.packing import SIDE


def image_ids(latents: Tensor) -> Tensor:
    """The places of the tokens of latents (B, C, h, w): float (h w / 4, 3) of 0, row, column."""
    rows, columns = (torch.arange(side // SIDE) for side in latents.shape[2:])
    places = torch.cartesian_prod(rows, columns)
    return F.pad(places, (1, 0)).to(latents.device, latents.dtype)


def text_ids(tokens: Tensor) -> Tensor:
    """The places of text (B, L, D): zeros (L, 3)."""
    return tokens.new_zeros(tokens.shape[1], 3)
