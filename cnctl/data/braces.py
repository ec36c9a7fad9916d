"""Brace ranges, as WebDataset's users and the shell write them: data/{000..099}.tar."""

from __future__ import annotations

from braceexpand import braceexpand


def expand_braces(text: str) -> list[str]:
    """Return what the text stands for, in the shell's order.

    "{1..3}" counts and "{a,b}" enumerates, nested or side by side. A text whose braces are not
    balanced stands for itself; a backslash is a letter, as in Windows' paths.
    """
    try:
        return list(braceexpand(text, escape=False))
    except ValueError:  # the braces are not balanced
        return [text]
