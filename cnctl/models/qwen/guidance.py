"""Qwen-Image's guidance."""

from __future__ import annotations

from torch import Tensor

from cnctl.models.guidance import guide as plain
from cnctl.models.transformer.packing import pack, unpack


def guide(without: Tensor, with_prompt: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance of predictions (B, C, h, w), each token as long as with the prompt.

    As in diffusers' pipelines.
    """
    guided, own = pack(plain(without, with_prompt, scale)), pack(with_prompt)
    ratio = own.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)
    return unpack(guided * ratio, *without.shape[2:])
