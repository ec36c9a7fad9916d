"""Prompts to text features, each read once, with text encoders on the device while they run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from cnctl.models.base import Base, TextEncoder
from cnctl.models.offload import on_device
from cnctl.models.text_features import TextFeatures, join
from cnctl.system.lines import as_text


@dataclass(frozen=True)
class PromptOptions:
    """How prompts are read.

    emphasis: whether brackets weigh words, as `prompt_weighting.read_emphasis` has it. clip_skip:
    which layer is read, as the web interfaces count: 1 is the one that the family reads, 2 the one
    before it.
    """

    emphasis: bool = False
    clip_skip: int = 1


PLAIN = PromptOptions()


@torch.no_grad()
def encode_prompts(
    base: Base, prompts: Sequence[str], *, chunks: int = 1, options: PromptOptions = PLAIN
) -> TextFeatures:
    """Prompts to text features (B, chunks * L, D), one by one, so that none changes another.

    What is left of a prompt after so many chunks is cut off; chunks that it does not fill are
    empty. An empty prompt is all zeros on a base that was trained so (`zeros_for_empty_prompt`).
    """
    keys = [(prompt, chunks, options) for prompt in prompts]
    known = {**base.prompt_cache}
    if unread := [key for key in dict.fromkeys(keys) if key not in known]:
        with on_device(base, *(encoder.model for encoder in base.text_encoders)):
            for key in unread:
                known[key] = _encode(base, *key)
    return join([known[key] for key in keys])


def precompute_prompts(base: Base, keys: Iterable[tuple[str, int, PromptOptions]]) -> Base:
    """The base with these prompts read, each in so many chunks and with these options.

    Its text encoders are released, so that it can read no other prompts.
    """
    known = {key: encode_prompts(base, [key[0]], chunks=key[1], options=key[2]) for key in keys}
    released = tuple(TextEncoder(None, encoder.tokenizer) for encoder in base.text_encoders)
    return replace(base, prompt_cache=known, text_encoders=released)


def count_chunks(base: Base, *prompts: str, options: PromptOptions = PLAIN) -> int:
    """How many chunks hold the longest of these prompts whole; at least one."""
    return base.family.prompts.count_chunks(base, prompts, options=options)


def describe_length(base: Base, prompt: str, *, options: PromptOptions = PLAIN) -> str:
    """A sentence on a prompt that is longer than a text encoder reads at once; "" else."""
    return base.family.prompts.describe_length(base, prompt, options=options)


def most_clip_skip(base: Base) -> int:
    """The largest `PromptOptions.clip_skip`: the first layer is read."""
    return base.family.prompts.most_clip_skip(base)


def _encode(base: Base, prompt: str, chunks: int, options: PromptOptions) -> TextFeatures:
    prompt = as_text(prompt, f"the prompt {prompt!a}")
    features = base.family.prompts.encode(base, prompt, chunks=chunks, options=options)
    return features.zeros() if base.zeros_for_empty_prompt and not prompt else features
