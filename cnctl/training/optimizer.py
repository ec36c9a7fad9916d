"""AdamW, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from cnctl.errors import MissingError
from cnctl.settings import TrainSettings


def make_optimizer(
    groups: Iterable[Sequence[nn.Parameter]], settings: TrainSettings
) -> torch.optim.Optimizer:
    """AdamW over these; MissingError where 8 bits are asked for and bitsandbytes is absent."""
    parameters = [{"params": group} for group in groups]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=settings.learning_rate, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise MissingError(
            "adamw8bit needs bitsandbytes, which is not installed",
            hint="pip install bitsandbytes, or leave --optimizer out",
        ) from error
    return AdamW8bit(parameters, lr=settings.learning_rate)


def learning_rate_at(step: int, settings: TrainSettings) -> float:
    """The learning rate of step `step` (from 0).

    It rises in equal steps to its full value at step `lr_warmup`; then it stays, or falls by half a
    cosine to zero after the last step.
    """
    if step < settings.lr_warmup:
        return settings.learning_rate * (step + 1) / settings.lr_warmup
    if settings.lr_schedule == "constant":
        return settings.learning_rate
    progress = (step - settings.lr_warmup) / (settings.steps - settings.lr_warmup)
    return settings.learning_rate * (1 + math.cos(math.pi * progress)) / 2
