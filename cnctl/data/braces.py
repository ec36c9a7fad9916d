"""Brace ranges, as WebDataset's users and the shell write them: data/{000..099}.tar."""

from __future__ import annotations

import re

RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


def expand_braces(text: str) -> list[str]:
    """What the text stands for, in the shell's order; itself where there is nothing to expand.

    "{1..3}" counts, up or down, "{a,b}" enumerates; both may be nested, and several multiply. A
    leading zero anywhere makes all numbers as wide as the wider end. Other braces stay as they are.
    """
    opening = text.find("{")
    if opening < 0:
        return [text]
    head, closing = text[:opening], _closing(text, opening)
    if closing is None:
        return [f"{head}{{{rest}" for rest in expand_braces(text[opening + 1 :])]
    tails = expand_braces(text[closing + 1 :])
    choices = _choices(text[opening + 1 : closing])
    return [head + choice + tail for choice in choices for tail in tails]


def _closing(text: str, opening: int) -> int | None:
    """Where the brace closes that opens there."""
    depth = 0
    for at in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return None


def _choices(body: str) -> list[str]:
    """What stands between two braces, one by one."""
    if match := RANGE.fullmatch(body):
        return _count(match[1], match[2])
    parts = _split(body)
    expanded = [choice for part in parts for choice in expand_braces(part)]
    return expanded if len(parts) > 1 else [f"{{{choice}}}" for choice in expanded]


def _count(first: str, last: str) -> list[str]:
    padded = any(re.match(r"-?0\d", end) for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    start, stop = int(first), int(last)
    step = 1 if stop >= start else -1
    return [f"{number:0{width}}" for number in range(start, stop + step, step)]


def _split(body: str) -> list[str]:
    """At the commas that lie in no further braces."""
    parts, depth = [""], 0
    for letter in body:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
