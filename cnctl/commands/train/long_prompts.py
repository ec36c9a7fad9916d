"""Prompts that are longer than a text encoder reads at once: training cuts them."""

from __future__ import annotations

from cnctl.data import Dataset
from cnctl.data.scenes import SceneDataset
from cnctl.models.base import Base
from cnctl.models.prompts import describe_length
from cnctl.models.short_prompts import is_short

MOST = 1000
"""Prompts that are looked at."""
MOST_REMOTE = 16
"""The same where each is a request."""


def describe_cut(dataset: Dataset, base: Base, *, is_remote: bool) -> str:
    """How many prompts training cuts, in words; "" for none."""
    if isinstance(dataset, SceneDataset):
        return ""
    looked = min(len(dataset), MOST_REMOTE if is_remote else MOST)
    cut = sum(is_cut(base, dataset.prompt(index)) for index in range(looked))
    if not cut:
        return ""
    of = "" if looked == len(dataset) else f" of the first {looked}"
    return f"{cut}{of} cut to what a text encoder reads at once"


def is_cut(base: Base, prompt: str) -> bool:
    """Whether training cuts this prompt, by tokenizers alone: the base may be without weights."""
    return not is_short(prompt) and bool(describe_length(base, prompt))
