"""What Typer finds wrong with a command line, in this program's words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

import typer

from cnctl.errors import CnctlError, one_line, shown

NEAR = 0.7
"""How alike a flag and a mistyped one are, from 0 to 1, at least."""
KINDS = {"int_parsing": "a whole number", "float_parsing": "a number"}
"""What a value must be, by the kind of pydantic's error."""


def describe_usage_error(error: typer.TyperException) -> str:
    """One line: what is wrong, and where to look."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "cnctl"
    message = _message(error).rstrip(".")
    end = " See" if message.endswith("?") else "; see"
    return f"{message}{end} {command} --help"


def advise_on_dashes(arguments: Sequence[str]) -> str:
    """How to give a file whose name was read as flags; "" where there is none."""
    flags = takewhile(lambda word: word != "--", arguments)
    for word in flags:
        if word.startswith("-") and len(word) > 1 and os.path.lexists(word):
            return f"a file's name that begins with - goes after --, or as {shown(f'./{word}')}"
    return ""


def _message(error: typer.TyperException) -> str:
    if option := getattr(error, "option_name", None):
        near = get_close_matches(
            option, getattr(error, "possibilities", None) or [], n=2, cutoff=NEAR
        )
        if near:
            verb = "is" if len(near) == 1 else "are"
            return f"no option {shown(option)}; nearest {verb} {', '.join(near)}"
    wrong: Any = error.__cause__
    for fault in wrong.errors() if hasattr(wrong, "errors") else ():
        if fault["type"] in KINDS:
            name = max(error.param.opts, key=len)  # type: ignore[attr-defined]
            return f"{name} is {fault['input']!r}; it must be {KINDS[fault['type']]}"
    return one_line(error.format_message())


def refuse_repeated(given: Sequence[Any]) -> None:
    """Raise CnctlError for an option of one value that is given twice: one would be ignored.

    given: the parameters as often as they stand in a command line.
    """
    seen = set()
    for parameter in given:
        if parameter in seen and not (parameter.multiple or parameter.is_flag):
            name = max(parameter.opts, key=len)
            raise CnctlError(f"{name} is given more than once", hint="it takes one value")
        seen.add(parameter)
