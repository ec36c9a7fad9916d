"""Environment variables that are not settings, and those that nothing reads."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping

from cnctl.errors import CnctlError
from cnctl.settings.common import CommonSettings
from cnctl.settings.declaration import declarations
from cnctl.settings.file import TABLES
from cnctl.settings.resolve import variable_of
from cnctl.settings.values import WORDS

OTHERS = ("CNCTL_COMMERCIAL", "CNCTL_DEBUG", "CNCTL_LIFELINE", "CNCTL_PLUGINS")
"""Variables of the program that no setting declares."""
NEAR = 0.85
"""How alike a variable and a mistyped one are, from 0 to 1, at least."""


def is_on(variable: str) -> bool:
    """Whether a variable says yes; unset and empty say no. CnctlError where it says neither."""
    text = os.environ.get(variable) or "no"
    if text.lower() not in WORDS:
        raise CnctlError(f"{variable}={text!r} is neither yes nor no", hint="give 1 or 0")
    return WORDS[text.lower()]


def describe_unread(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each variable CNCTL_... that nothing reads: a typing error, mostly."""
    known = {*OTHERS, *_of_settings()}
    for name in sorted(environ):
        if name.startswith("CNCTL_") and name not in known:
            ends_so = [each for each in sorted(known) if each.endswith(name.removeprefix("CNCTL"))]
            near = ends_so or difflib.get_close_matches(name, sorted(known), n=1, cutoff=NEAR)
            yield f"{name} is not read" + (f"; did you mean {' or '.join(near)}?" if near else "")


def _of_settings() -> Iterator[str]:
    for kind in (CommonSettings, *TABLES):
        for setting in declarations(kind).values():
            for name in filter(None, (setting.name, setting.flag.former)):
                yield variable_of(kind, name)
