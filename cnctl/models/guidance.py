"""Guidance: one prediction from those without and with the prompt."""

from __future__ import annotations

from torch import Tensor


def guide(without: Tensor, with_prompt: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans, 2022) of predictions (B, C, h, w)."""
    return without + scale * (with_prompt - without)
