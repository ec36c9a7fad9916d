"""Section 3.4, large-scale training: parts of the base that are trained with the ControlNet."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import nn

UNFREEZABLE = ("decoder", "all")
DECODER = ("up_blocks.", "conv_norm_out.", "conv_out.")


def unfreezable_parameters(unet: UNet2DConditionModel, part: str) -> dict[str, nn.Parameter]:
    """Parameters to unfreeze, by name: "decoder" (the original's `sd_locked=False`) or "all"."""
    named = unet.named_parameters()
    return {name: p for name, p in named if part == "all" or name.startswith(DECODER)}
