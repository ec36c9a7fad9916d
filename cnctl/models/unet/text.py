"""Prompts to text features, also of prompts that are longer than a text encoder reads at once.

SDXL has two text encoders. Their last layers but one, side by side, are its tokens, and the second
one's pooled output goes with them. The other families read the last layer of their only one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cnctl.models.base import Base
from cnctl.models.prompt_weighting import read_emphasis, weigh
from cnctl.models.prompts import PromptOptions
from cnctl.models.text_features import TextFeatures
from cnctl.models.unet.textual_inversion import expand


class ClipPrompts:
    """Prompts as one or two CLIP text encoders read them, in chunks of what they read at once."""

    def encode(
        self, base: Base, prompt: str, *, chunks: int, options: PromptOptions
    ) -> TextFeatures:
        """Text features of one prompt, (1, chunks * L, D).

        A chunk holds L tokens: the beginning, 75 tokens of the prompt where L is 77, the end.
        """
        tokens, pooled = [], None
        for model, tokenizer in base.text_encoders:
            outputs, weights = _read(model, tokenizer, prompt, chunks=chunks, options=options)
            if len(base.text_encoders) == 1:
                layers = [_normed(model, out.hidden_states[-options.clip_skip]) for out in outputs]
            else:
                layers = [out.hidden_states[-1 - options.clip_skip] for out in outputs]
                # The first chunk stands for a long prompt as a whole, as in the web interfaces.
                pooled = outputs[0].get("text_embeds")
            weighted = [weigh(*one) for one in zip(layers, weights, strict=True)]
            tokens.append(torch.cat(weighted, dim=1))
        return TextFeatures(torch.cat(tokens, dim=-1), pooled=pooled)

    def count_chunks(self, base: Base, prompts: Sequence[str], *, options: PromptOptions) -> int:
        """How many chunks hold the longest of these prompts whole; at least one."""
        lengths = [
            len(_weighted_words(tokenizer, prompt, options))
            for _, tokenizer in base.text_encoders
            for prompt in prompts
        ]
        return max(1, math.ceil(max(lengths, default=0) / _chunk_size(base)))

    def describe_length(self, base: Base, prompt: str, *, options: PromptOptions) -> str:
        """A sentence on a prompt that takes several chunks; "" else."""
        if (chunks := self.count_chunks(base, [prompt], options=options)) == 1:
            return ""
        size = _chunk_size(base)
        return f"the prompt is long: {base.name} reads it in {chunks} parts of {size} tokens"

    def most_clip_skip(self, base: Base) -> int:
        """The largest `PromptOptions.clip_skip`: the first layer is read."""
        encoders = base.text_encoders
        return min(model.config.num_hidden_layers for model, _ in encoders) - (len(encoders) > 1)


def _chunk_size(base: Base) -> int:
    """Tokens of a prompt in one chunk."""
    return base.text_encoders[0].tokenizer.model_max_length - 2


def _normed(model: Any, layer: Tensor) -> Tensor:
    """As the last layer is before it is read."""
    return getattr(model, "text_model", model).final_layer_norm(layer)


def _read(
    model: Any, tokenizer: Any, prompt: str, *, chunks: int, options: PromptOptions
) -> tuple[list[Any], list[list[float]]]:
    """What a text encoder says of each chunk, and how much each of its tokens counts."""
    words, length = _weighted_words(tokenizer, prompt, options), tokenizer.model_max_length
    size = length - 2
    outputs, weights = [], []
    for part in (words[i * size : (i + 1) * size] for i in range(chunks)):
        tokens = [tokenizer.bos_token_id, *(word for word, _ in part), tokenizer.eos_token_id]
        padding = length - len(tokens)
        row = torch.tensor([tokens + [tokenizer.pad_token_id] * padding], device=model.device)
        outputs.append(model(row, output_hidden_states=True))
        weights.append([1.0, *(weight for _, weight in part), 1.0, *[1.0] * padding])
    return outputs, weights


def _weighted_words(tokenizer: Any, prompt: str, options: PromptOptions) -> list[tuple[int, float]]:
    """The prompt's tokens without beginning and end, learnt words in all their tokens."""
    parts = read_emphasis(prompt) if options.emphasis else [(prompt, 1.0)]
    words = []
    for text, weight in parts:
        read = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        words += [(word, weight) for word in expand(tokenizer, read)]
    return words
