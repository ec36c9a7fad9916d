"""Prompts to text features, also of prompts that are longer than a text encoder reads at once.

SDXL has two text encoders. Their last layers but one, side by side, are its tokens, and the second
one's pooled output goes with them. The other families read the last layer of their only one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from cnctl.core.base import Base
from cnctl.core.embeddings import expand
from cnctl.core.text_features import TextFeatures, join


@torch.no_grad()
def encode_prompts(base: Base, prompts: Sequence[str], *, chunks: int = 1) -> TextFeatures:
    """Prompts to text features of (B, chunks * L, D), one by one, so that none changes another.

    A chunk holds L tokens: the beginning, 75 tokens of the prompt where L is 77, the end. What is
    left of a prompt after so many chunks is cut off; chunks that it does not fill are empty. An
    empty prompt is all zeros on a base that was trained so (`Base.zeros_for_empty_prompt`).
    """
    features = {prompt: _encode(base, prompt, chunks) for prompt in dict.fromkeys(prompts)}
    return join([features[prompt] for prompt in prompts])


def count_chunks(base: Base, *prompts: str) -> int:
    """How many chunks hold the longest of these prompts whole; at least one."""
    tokenizers = [tokenizer for _, tokenizer in base.text_encoders]
    longest = max((len(_words(t, prompt)) for t in tokenizers for prompt in prompts), default=0)
    return max(1, math.ceil(longest / chunk_size(base)))


def chunk_size(base: Base) -> int:
    """Tokens of a prompt in one chunk."""
    return base.tokenizer.model_max_length - 2


def _encode(base: Base, prompt: str, chunks: int) -> TextFeatures:
    read = [_read(*encoder, prompt, chunks=chunks) for encoder in base.text_encoders]
    if len(read) == 1:
        return TextFeatures(torch.cat([part.last_hidden_state for part in read[0]], dim=1))
    tokens = [torch.cat([part.hidden_states[-2] for part in parts], dim=1) for parts in read]
    # A long prompt as a whole is told by its first chunk, as in the web interfaces.
    features = TextFeatures(torch.cat(tokens, dim=-1), pooled=read[1][0].text_embeds)
    return features.zeros() if base.zeros_for_empty_prompt and not prompt else features


def _read(model: Any, tokenizer: Any, prompt: str, *, chunks: int) -> list[Any]:
    """What a text encoder says of each chunk."""
    words, length = _words(tokenizer, prompt), tokenizer.model_max_length
    size = length - 2
    outputs = []
    for part in (words[i * size : (i + 1) * size] for i in range(chunks)):
        tokens = [tokenizer.bos_token_id, *part, tokenizer.eos_token_id]
        tokens += [tokenizer.pad_token_id] * (length - len(tokens))
        row = torch.tensor([tokens], device=model.device)
        outputs.append(model(row, output_hidden_states=True))
    return outputs


def _words(tokenizer: Any, prompt: str) -> list[int]:
    """The prompt's tokens without beginning and end, learnt words in all their tokens."""
    return expand(tokenizer, tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids)
