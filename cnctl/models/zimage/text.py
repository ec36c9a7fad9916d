"""Prompts as Z-Image reads them: by a language model, Qwen3, in the frame of a chat."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cnctl.models.base import Base
from cnctl.models.prompts import PromptOptions
from cnctl.models.text_features import TextFeatures

MOST_TOKENS = 512
"""What diffusers' pipelines give it, the frame included."""


class ZImagePrompts:
    """A `PromptReader`: the layer before the last, of the prompt's beginning, without padding."""

    def encode(
        self, base: Base, prompt: str, *, chunks: int, options: PromptOptions
    ) -> TextFeatures:
        """Features of one prompt, (1, L, D)."""
        [(model, _)] = base.text_encoders
        ids = torch.tensor([_ids(base, prompt)[:MOST_TOKENS]], device=model.device)
        read = model(input_ids=ids, output_hidden_states=True, use_cache=False)
        return TextFeatures(read.hidden_states[-2])

    def count_chunks(self, base: Base, prompts: Sequence[str], *, options: PromptOptions) -> int:
        """One: what is not read at once is not read."""
        return 1

    def describe_length(self, base: Base, prompt: str, *, options: PromptOptions) -> str:
        """A sentence on a prompt of which the beginning only is read; "" else."""
        given = len(_ids(base, prompt))
        if given <= MOST_TOKENS:
            return ""
        return (
            f"the prompt is long: {base.name}'s text encoder reads the first {MOST_TOKENS} "
            f"of {given} tokens"
        )

    def most_clip_skip(self, base: Base) -> int:
        """One: no other layer is read."""
        return 1


def _ids(base: Base, prompt: str) -> list[int]:
    """The tokens of a prompt as what a user says, and the beginning of an answer."""
    tokenizer = base.text_encoders[0].tokenizer
    framed = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
    )
    return tokenizer(framed, verbose=False).input_ids
