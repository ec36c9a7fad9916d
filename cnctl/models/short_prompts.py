"""Prompts that no tokenizer needs to be asked about. Needs no torch."""

from __future__ import annotations

SHORT = 75
"""Bytes of a prompt that every text encoder reads whole: a token has one at least."""


def is_short(prompt: str) -> bool:
    """Whether every text encoder reads this prompt whole; words that were added to one aside."""
    return len(prompt.encode("utf-8", "surrogatepass")) <= SHORT
