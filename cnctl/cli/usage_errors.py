"""What Typer finds wrong with a command line, in this program's words."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

import typer

from cnctl.errors import CnctlError, one_line, shown

NEAR = 0.7
"""How alike a flag and a mistyped one are, from 0 to 1, at least."""
KINDS = {
    "int_parsing": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
}
"""What a value must be, by the kind of pydantic's error."""


def describe_usage_error(error: typer.TyperException) -> str:
    """One line: what is wrong, and where to look."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "cnctl"
    message = _message(error).rstrip(".")
    end = " See" if message.endswith("?") else "; see"
    return f"{message}{end} {command} --help"


def refuse_files_as_flags(words: Sequence[str], flags: Iterable[str]) -> None:
    """Raise CnctlError for a word that is read as flags although it is the name of a file."""
    known = {"-", *flags}
    for word in takewhile(lambda word: word != "--", words):
        if word.startswith("-") and word not in known and os.path.lexists(word):
            raise CnctlError(
                f"{shown(word)} is a file, and is read as flags", hint=f"write {shown(f'./{word}')}"
            )


def refuse_empty(given: Iterable[Any], values: Mapping[str, Any]) -> None:
    """Raise CnctlError for an empty value, as "$DATA" is where DATA is not set; the default would
    take its place, or the working folder. Prompts may be empty.
    """
    for parameter in given:
        value = values[parameter.name]
        parts = value if isinstance(value, list | tuple) else [value]
        if "" in parts and "prompt" not in parameter.name:
            is_option = parameter.param_type_name == "option"
            name = max(parameter.opts, key=len) if is_option else "an argument"
            raise CnctlError(f"{name} is empty", hint="give a value, or leave it out")


def _message(error: typer.TyperException) -> str:
    if option := getattr(error, "option_name", None):
        if option == "--debug":
            return "--debug belongs before the command: cnctl --debug COMMAND"
        near = get_close_matches(
            option, getattr(error, "possibilities", None) or [], n=2, cutoff=NEAR
        )
        if near:
            verb = "is" if len(near) == 1 else "are"
            return f"no option {shown(option)}; nearest {verb} {', '.join(near)}"
    wrong: Any = error.__cause__
    for fault in wrong.errors() if hasattr(wrong, "errors") else ():
        if fault["type"] in KINDS:
            parameter: Any = error.param  # type: ignore[attr-defined]
            # A switch takes no value, so a wrong one is its variable's.
            name = parameter.envvar if parameter.is_flag else max(parameter.opts, key=len)
            return f"{name} is {fault['input']!r}; it must be {KINDS[fault['type']]}"
    return one_line(error.format_message())


def describe_repeated(given: Sequence[Any]) -> list[str]:
    """A line for each option of one value that is given more than once: the last counts.

    given: the parameters as often as they stand in a command line.
    """
    counts = Counter(parameter for parameter in given if not parameter.multiple)
    names = (max(p.opts, key=len) for p, count in counts.items() if count > 1 and not p.is_flag)
    return [f"{name} is given more than once; the last one counts" for name in names]
