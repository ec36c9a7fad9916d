"""Prompts to text features, also of prompts that are longer than the text encoder reads at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cnctl.core.base import Base


@torch.no_grad()
def encode_prompts(base: Base, prompts: Sequence[str], *, chunks: int = 1) -> Tensor:
    """Prompts to text features (B, chunks * L, D), one at a time, so that none changes another.

    A chunk holds L tokens: the beginning, 75 tokens of the prompt where L is 77, the end. What is
    left of a prompt after so many chunks is cut off; chunks that it does not fill are empty.
    """
    features = {prompt: _encode(base, prompt, chunks) for prompt in dict.fromkeys(prompts)}
    return torch.cat([features[prompt] for prompt in prompts])


def count_chunks(base: Base, *prompts: str) -> int:
    """How many chunks hold the longest of these prompts whole; at least one."""
    longest = max((len(_words(base, prompt)) for prompt in prompts), default=0)
    return max(1, math.ceil(longest / chunk_size(base)))


def chunk_size(base: Base) -> int:
    """Tokens of a prompt in one chunk."""
    return base.tokenizer.model_max_length - 2


def _encode(base: Base, prompt: str, chunks: int) -> Tensor:
    words, size = _words(base, prompt), chunk_size(base)
    parts = [words[i * size : (i + 1) * size] for i in range(chunks)]
    return torch.cat([_encode_chunk(base, part) for part in parts], dim=1)


def _encode_chunk(base: Base, words: Sequence[int]) -> Tensor:
    tokenizer = base.tokenizer
    tokens = [tokenizer.bos_token_id, *words, tokenizer.eos_token_id]
    tokens += [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(tokens))
    return base.text_encoder(torch.tensor([tokens], device=base.device))[0]


def _words(base: Base, prompt: str) -> list[int]:
    """The prompt's tokens without beginning and end."""
    return base.tokenizer(prompt, add_special_tokens=False).input_ids
