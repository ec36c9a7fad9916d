"""Prompts as SD3 reads them: by two CLIP text encoders, and by T5 where the base has it.

The last layers but one of both CLIPs, side by side and padded with zeros to T5's width, come before
T5's last layer; their pooled outputs, side by side, are the prompt as a whole. Without T5 its
tokens are zeros, as in diffusers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cnctl.models.base import Base
from cnctl.models.prompts import PromptOptions
from cnctl.models.text_features import TextFeatures
from cnctl.models.transformer.text import describe_cut, read_ids

T5_TOKENS = 256
"""Tokens that T5 reads, its end included: what diffusers' pipelines give it."""
MAX_SEQUENCE_LENGTH = "max_sequence_length"
"""The key of another number of them in what a base says of itself."""


class Sd3Prompts:
    """A `PromptReader`: each encoder reads the beginning of a prompt, once."""

    def encode(
        self, base: Base, prompt: str, *, chunks: int, options: PromptOptions
    ) -> TextFeatures:
        """Features of one prompt: tokens (1, 77 + 256, D), pooled (1, P)."""
        length = _clip_length(base)
        outputs = [
            model(read_ids(model, tokenizer, prompt, length), output_hidden_states=True)
            for model, tokenizer in base.text_encoders[:2]
        ]
        layers = [output.hidden_states[-1 - options.clip_skip] for output in outputs]
        clip = torch.cat(layers, dim=-1)
        t5 = _read_t5(base, prompt, like=clip)
        clip = F.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
        pooled = torch.cat([output.text_embeds for output in outputs], dim=-1)
        return TextFeatures(torch.cat([clip, t5.to(clip)], dim=1), pooled=pooled)

    def count_chunks(self, base: Base, prompts: Sequence[str], *, options: PromptOptions) -> int:
        """One: what an encoder does not read at once it does not read."""
        return 1

    def describe_length(self, base: Base, prompt: str, *, options: PromptOptions) -> str:
        """A sentence on a prompt of which some encoder reads the beginning only; "" else."""
        clip = ("CLIP", _clip_length(base) - 2)
        return describe_cut(base, prompt, [clip, clip, ("T5", _t5_length(base) - 1)])

    def most_clip_skip(self, base: Base) -> int:
        """The largest `PromptOptions.clip_skip`: the first layer of a CLIP is read."""
        return min(model.config.num_hidden_layers for model, _ in base.text_encoders[:2]) - 1


def _clip_length(base: Base) -> int:
    return base.text_encoders[0].tokenizer.model_max_length


def _read_t5(base: Base, prompt: str, *, like: Tensor) -> Tensor:
    """T5's last layer, (1, 256, D)."""
    length = _t5_length(base)
    if len(base.text_encoders) < 3:
        return like.new_zeros(1, length, base.denoiser.config.joint_attention_dim)
    model, tokenizer = base.text_encoders[2]
    return model(read_ids(model, tokenizer, prompt, length)).last_hidden_state


def _t5_length(base: Base) -> int:
    return base.defaults.get(MAX_SEQUENCE_LENGTH, T5_TOKENS)
