"""Textual inversion (Gal et al., 2022): new words in a base's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor
from transformers import AddedToken

from cnctl.errors import CnctlError
from cnctl.models.base import Base, lock


def add_embedding(base: Base, word: str, vectors: Sequence[Tensor]) -> None:
    """Add a word to the base. vectors: (n, D) for each of its text encoders; n tokens stand for it.

    Raises CnctlError where they do not fit the base, or the word is known already.
    """
    widths = [model.config.hidden_size for model, _ in base.text_encoders]
    if [one.shape[1] for one in vectors] != widths:
        given = " and ".join(str(one.shape[1]) for one in vectors)
        read = " and ".join(map(str, widths))
        raise CnctlError(
            f"the embedding {word!r} has vectors of {given} numbers, "
            f"{base.name} reads {read} ({base.family.name})",
            hint="give an embedding that was made for this family of bases",
        )
    for (model, tokenizer), own in zip(base.text_encoders, vectors, strict=True):
        _teach(model, tokenizer, word, own)


def expand(tokenizer: Any, words: Sequence[int]) -> list[int]:
    """The tokens of a prompt, with each learnt word replaced by all of its tokens."""
    learnt = tokenizer.get_added_vocab()
    expanded = []
    for word, token in zip(words, tokenizer.convert_ids_to_tokens(words), strict=True):
        expanded.append(word)
        if token in learnt:
            for number in count(1):
                if (following := learnt.get(_name(token, number))) is None:
                    break
                expanded.append(following)
    return expanded


def _teach(model: Any, tokenizer: Any, word: str, vectors: Tensor) -> None:
    names = [_name(word, number) for number in range(len(vectors))]
    if tokenizer.get_vocab().keys() & set(names):
        raise CnctlError(
            f"the base knows the word {word!r} already", hint="choose another word: WORD=FILE"
        )
    # Alone, so that a word within another is left as it was.
    tokenizer.add_tokens([AddedToken(name, single_word=True) for name in names])
    table = model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        table.weight[tokenizer.convert_tokens_to_ids(names)] = vectors.to(table.weight)
    lock(model)
    # Older configs have the end found as the highest number, which a learnt word's now is.
    for module in model.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = tokenizer.eos_token_id


def _name(word: str, number: int) -> str:
    return f"{word}_{number}" if number else word
