"""Prompts to text features, also of prompts that are longer than a text encoder reads at once.

SDXL has two text encoders. Their last layers but one, side by side, are its tokens, and the second
one's pooled output goes with them. The other families read the last layer of their only one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cnctl.models.base import Base
from cnctl.models.offload import at_work
from cnctl.models.text_features import TextFeatures, join
from cnctl.models.unet.prompt_weighting import read_emphasis, weigh
from cnctl.models.unet.textual_inversion import expand


@dataclass(frozen=True)
class Reading:
    """How prompts are read.

    emphasis: whether brackets weigh words, as `read_emphasis` has it. clip_skip: which layer is
    read, as the web interfaces count: 1 is the one that the family reads, 2 the one before it.
    """

    emphasis: bool = False
    clip_skip: int = 1


PLAIN = Reading()


@torch.no_grad()
def encode_prompts(
    base: Base, prompts: Sequence[str], *, chunks: int = 1, reading: Reading = PLAIN
) -> TextFeatures:
    """Prompts to text features of (B, chunks * L, D), one by one, so that none changes another.

    A chunk holds L tokens: the beginning, 75 tokens of the prompt where L is 77, the end. What is
    left of a prompt after so many chunks is cut off; chunks that it does not fill are empty. An
    empty prompt is all zeros on a base that was trained so (`Base.zeros_for_empty_prompt`).
    """
    keys = [(prompt, chunks, reading) for prompt in prompts]
    known = {**base.read_already}
    if unread := [key for key in dict.fromkeys(keys) if key not in known]:
        with at_work(base, *(model for model, _ in base.text_encoders)):
            known |= {key: _encode(base, *key) for key in unread}
    return join([known[key] for key in keys])


def read_beforehand(base: Base, keys: Iterable[tuple[str, int, Reading]]) -> Base:
    """The base with these prompts read, each in so many chunks and in this way.

    Its text encoders are let go, so that it can read no other prompts.
    """
    known = {key: encode_prompts(base, [key[0]], chunks=key[1], reading=key[2]) for key in keys}
    return replace(base, read_already=known, text_encoder=None, text_encoder_2=None)


def count_chunks(base: Base, *prompts: str, reading: Reading = PLAIN) -> int:
    """How many chunks hold the longest of these prompts whole; at least one."""
    lengths = [
        len(_weighted_words(tokenizer, prompt, reading))
        for _, tokenizer in base.text_encoders
        for prompt in prompts
    ]
    return max(1, math.ceil(max(lengths, default=0) / chunk_size(base)))


def chunk_size(base: Base) -> int:
    """Tokens of a prompt in one chunk."""
    return base.tokenizer.model_max_length - 2


def most_clip_skip(base: Base) -> int:
    """The largest `Reading.clip_skip`: the first layer is read."""
    encoders = base.text_encoders
    return min(model.config.num_hidden_layers for model, _ in encoders) - (len(encoders) > 1)


def _encode(base: Base, prompt: str, chunks: int, reading: Reading) -> TextFeatures:
    tokens, pooled = [], None
    for model, tokenizer in base.text_encoders:
        outputs, weights = _read(model, tokenizer, prompt, chunks=chunks, reading=reading)
        if len(base.text_encoders) == 1:
            layers = [_normed(model, out.hidden_states[-reading.clip_skip]) for out in outputs]
        else:
            layers = [out.hidden_states[-1 - reading.clip_skip] for out in outputs]
            # A long prompt as a whole is told by its first chunk, as in the web interfaces.
            pooled = outputs[0].get("text_embeds")
        tokens.append(torch.cat([weigh(*one) for one in zip(layers, weights, strict=True)], dim=1))
    features = TextFeatures(torch.cat(tokens, dim=-1), pooled=pooled)
    return features.zeros() if base.zeros_for_empty_prompt and not prompt else features


def _normed(model: Any, layer: Tensor) -> Tensor:
    """As the last layer is before it is read."""
    return getattr(model, "text_model", model).final_layer_norm(layer)


def _read(
    model: Any, tokenizer: Any, prompt: str, *, chunks: int, reading: Reading
) -> tuple[list[Any], list[list[float]]]:
    """What a text encoder says of each chunk, and how much each of its tokens counts."""
    words, length = _weighted_words(tokenizer, prompt, reading), tokenizer.model_max_length
    size = length - 2
    outputs, weights = [], []
    for part in (words[i * size : (i + 1) * size] for i in range(chunks)):
        tokens = [tokenizer.bos_token_id, *(word for word, _ in part), tokenizer.eos_token_id]
        padding = length - len(tokens)
        row = torch.tensor([tokens + [tokenizer.pad_token_id] * padding], device=model.device)
        outputs.append(model(row, output_hidden_states=True))
        weights.append([1.0, *(weight for _, weight in part), 1.0, *[1.0] * padding])
    return outputs, weights


def _weighted_words(tokenizer: Any, prompt: str, reading: Reading) -> list[tuple[int, float]]:
    """The prompt's tokens without beginning and end, learnt words in all their tokens."""
    parts = read_emphasis(prompt) if reading.emphasis else [(prompt, 1.0)]
    words = []
    for text, weight in parts:
        read = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        words += [(word, weight) for word in expand(tokenizer, read)]
    return words
