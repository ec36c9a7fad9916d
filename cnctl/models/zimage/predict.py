"""What Z-Image's transformer reads, and what it predicts."""

from __future__ import annotations

import math

import torch
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from torch import Tensor, nn

from cnctl.models.quantize import floating_dtype
from cnctl.models.residuals import Residuals
from cnctl.models.text_features import TextFeatures

LAST_TIMESTEP = 1000


def predict_velocity(
    transformer: nn.Module,
    latents: Tensor,
    timestep: Tensor,
    text: TextFeatures,
    residuals: Residuals | None = None,
) -> Tensor:
    """The velocity (B, C, h, w) by the transformer, which predicts its negative."""
    dtype = floating_dtype(transformer)
    captions = split_captions(text.to(dtype))
    added = None
    if residuals is not None:
        assert residuals.grid is not None
        image = padded_length(math.prod(residuals.grid))
        length = image + max(padded_length(len(caption)) for caption in captions)
        added = residuals.then(lambda tokens: tokens[:, :length].to(dtype)).by_block()
    predicted, *_ = transformer(
        split_images(latents.to(dtype)),
        remaining_time(timestep, len(latents)),
        captions,
        controlnet_block_samples=added,
        return_dict=False,
    )
    return -torch.stack(predicted).squeeze(2)


def split_images(latents: Tensor) -> list[Tensor]:
    """Latents (B, C, h, w) as one video (C, 1, h, w) of one frame each."""
    return list(latents.unsqueeze(2))


def split_captions(text: TextFeatures) -> list[Tensor]:
    """The tokens (L, D) of each prompt, without padding."""
    if text.mask is None:
        return list(text.tokens)
    return [tokens[real] for tokens, real in zip(text.tokens, text.mask, strict=True)]


def remaining_time(timestep: Tensor, count: int) -> Tensor:
    """What the transformer is given of time, (B,): 0 for noise alone, 1 for clean latents."""
    return ((LAST_TIMESTEP - timestep) / LAST_TIMESTEP).expand(count)


def padded_length(tokens: int) -> int:
    """The multiple of 32 to which so many tokens of an image or a prompt are padded."""
    return tokens + -tokens % SEQ_MULTI_OF
