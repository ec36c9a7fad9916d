"""Prompts of which each text encoder reads the beginning, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cnctl.models.base import Base


def read_ids(model: Any, tokenizer: Any, prompt: str, length: int) -> Tensor:
    """The token ids of a prompt, (1, length), padded or cut, on the model's device."""
    read = tokenizer(
        [prompt], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return read.input_ids.to(model.device)


def describe_cut(base: Base, prompt: str, encoders: Sequence[tuple[str, int]]) -> str:
    """A sentence on a prompt of which some text encoder reads the beginning only; "" else.

    encoders: name and number of tokens, without the special ones, of each of the base's.
    """
    read = {}
    for (_, tokenizer), (name, limit) in zip(base.text_encoders, encoders, strict=False):
        given = len(tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids)
        read[name] = f"the first {limit} of {given} tokens" if given > limit else "all of it"
    if all(how == "all of it" for how in read.values()):
        return ""
    parts = " and ".join(f"{name} reads {how}" for name, how in read.items())
    return f"the prompt is long: of {base.name}'s text encoders {parts}"
