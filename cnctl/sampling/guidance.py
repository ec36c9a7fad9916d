"""Guidance: one prediction from those without and with the prompt."""

from __future__ import annotations

from torch import Tensor


def guide(predicted: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans, 2022).

    predicted: (2 B, C, h, w), the half without the prompt first. Returns (B, C, h, w).
    """
    without, with_prompt = predicted.chunk(2)
    return without + scale * (with_prompt - without)
