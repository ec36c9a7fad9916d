"""The residuals of a ControlNet for random input: equal for two files with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel

from cnctl.models.unet.checkpoint.architecture import Architecture
from cnctl.models.unet.load import build
from cnctl.models.unet.union import UnionView, view_of
from cnctl.tensorfiles.lazy import Tensors


@torch.no_grad()
def residuals(
    tensors: Tensors, a: Architecture, config: Mapping[str, Any], *, where: Path
) -> list[torch.Tensor]:
    """The residuals of random latents, text features and hint, in float32.

    Of a union: for each kind of hint in turn.
    """
    controlnet = build(
        tensors,
        a,
        config,
        where=where,
        dtype=torch.float32,
    )
    if isinstance(controlnet, ControlNetUnionModel):
        kinds = range(controlnet.config.num_control_type)
        return [one for kind in kinds for one in _respond(view_of(controlnet, kind), a)]
    return _respond(controlnet, a)


def _respond(controlnet: ControlNetModel | UnionView, a: Architecture) -> list[torch.Tensor]:
    factor = 8 if a.hint_encoder == "paper" else 2 ** (len(a.hint_widths) - 1)
    side = max(8, 2 ** (len(a.widths) - 1))
    random = torch.Generator().manual_seed(0)
    down, middle = controlnet(
        torch.randn(1, a.in_channels, side, side, generator=random),
        torch.tensor([500]),
        torch.randn(1, 77, controlnet.config.cross_attention_dim, generator=random),
        torch.rand(1, a.hint_channels, factor * side, factor * side, generator=random),
        added_cond_kwargs=_sizes(controlnet, a, random) if a.label_width else None,
        return_dict=False,
    )
    return [*down, middle]


def _sizes(controlnet: Any, a: Architecture, random: torch.Generator) -> dict[str, torch.Tensor]:
    """SDXL's second embedding: a pooled text, and six numbers of sizes and crops."""
    pooled = a.label_width - 6 * controlnet.config.addition_time_embed_dim
    return {
        "text_embeds": torch.randn(1, pooled, generator=random),
        "time_ids": torch.tensor([[512.0, 512.0, 0.0, 0.0, 512.0, 512.0]]),
    }
