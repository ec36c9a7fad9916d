"""Values of settings from text and from TOML, and the errors for wrong ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from cnctl.errors import CnctlError
from cnctl.settings.declaration import Setting

YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
WORDS = dict.fromkeys(YES, True) | dict.fromkeys(NO, False)


def value_from_text(setting: Setting, text: str, name: str) -> Any:
    """The value that a text says; CnctlError that calls it `name` where it is of another type."""
    try:
        value = WORDS[text.lower()] if setting.type is bool else setting.type(text)
    except (ValueError, KeyError) as error:
        raise CnctlError(
            f"{name}={text!r} is not {kind_of(setting)}", hint=f"give {kind_of(setting)}"
        ) from error
    setting.check(value, name)
    return value


def value_from_document(setting: Setting, value: Any, name: str) -> Any:
    """A value of TOML or JSON as the setting's type; CnctlError names it where it is of another."""
    allowed = (int, float) if setting.type is float else setting.type
    if not isinstance(value, allowed) or isinstance(value, bool) != (setting.type is bool):
        raise CnctlError(f"{name} is {value!r}", hint=f"give {kind_of(setting)}")
    setting.check(value, name)
    return setting.type(value)


def kind_of(setting: Setting) -> str:
    """What the setting's type is called."""
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(
        setting.type, "text"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest that is known, or all."""
    known = [*known]
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
