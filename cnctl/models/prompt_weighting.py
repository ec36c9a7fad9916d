"""Words of a prompt with weights, in the notation of the web interfaces.

(word) counts 1.1 times, ((word)) 1.21 times, (word:1.5) 1.5 times, [word] 1 / 1.1 times; a
backslash makes a bracket an ordinary letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor

STRONGER = 1.1
"""What a pair of round brackets multiplies by; square ones divide by it."""
PIECES = re.compile(
    r"""
      \\(?P<literal>[()\[\]\\])
    | :\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)
    | (?P<opening>[(\[])
    | (?P<closing>[)\]])
    | [^\\()\[\]:]+
    | [\\:]
    """,
    re.VERBOSE,
)
CLOSES = {")": "(", "]": "["}


def read_emphasis(prompt: str) -> list[tuple[str, float]]:
    """The parts of a prompt with their weights, neighbours of one weight joined.

    A bracket that is never closed reaches to the end; one that was never opened is a letter.
    """
    texts: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(begin: int, factor: float) -> None:
        weights[begin:] = [weight * factor for weight in weights[begin:]]

    for piece in PIECES.finditer(prompt):
        bracket = piece["opening"] or CLOSES.get(piece["closing"], "(" if piece["weight"] else "")
        if piece["opening"]:
            opened[bracket].append(len(texts))
        elif bracket and opened[bracket]:
            multiply(opened[bracket].pop(), float(piece["weight"] or _factor(bracket)))
        else:
            texts.append(piece["literal"] or piece[0])
            weights.append(1.0)
    for bracket, begins in opened.items():
        for begin in begins:
            multiply(begin, _factor(bracket))
    return _joined(texts, weights)


def without_emphasis(prompt: str) -> str:
    r"""A prompt so written that its brackets are read as letters: "a (b)" as "a \(b\)"."""
    return re.sub(r"([()\[\]\\])", r"\\\1", prompt)


def weigh(features: Tensor, weights: Sequence[float]) -> Tensor:
    """Token features (1, L, D), each times its weight, at the mean that they had before.

    All as they are where all weights are 1.
    """
    if all(weight == 1 for weight in weights):
        return features
    weighted = features * features.new_tensor(weights)[:, None]
    return weighted * (features.mean() / weighted.mean())


def _factor(bracket: str) -> float:
    return STRONGER if bracket == "(" else 1 / STRONGER


def _joined(texts: Sequence[str], weights: Sequence[float]) -> list[tuple[str, float]]:
    parts: list[tuple[str, float]] = []
    for text, weight in zip(texts, weights, strict=True):
        if parts and parts[-1][1] == weight:
            parts[-1] = (parts[-1][0] + text, weight)
        else:
            parts.append((text, weight))
    return parts
