"""Which conditions are installed, by package metadata alone: no plugin is imported."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import cache

from cnctl.errors import CnctlError
from cnctl.registry.metadata import Entry, normal, read_entries

OWN_DISTRIBUTION = "cnctl"


class UnknownCondition(CnctlError):
    """No condition of this name is installed, or CNCTL_PLUGINS excludes it."""


def condition_names() -> list[str]:
    """Return the names of the installed conditions, sorted. Imports no plugin."""
    return sorted({entry.name for entry in installed_entries()})


def installed_entries() -> list[Entry]:
    """Return the entries that CNCTL_PLUGINS allows, with a problem where the name is taken."""
    entries = [entry for entry in read_entries(tuple(sys.path))[0] if _is_allowed(entry)]
    return [replace(entry, problem=_rivalry(entry, entries)) for entry in entries]


def find_entry(name: str) -> Entry:
    """Return the one usable entry of this name, without importing its plugin."""
    note_unreadable_metadata()
    claims = [entry for entry in installed_entries() if entry.name == name]
    if not claims:
        raise _unknown(name)
    usable = [entry for entry in claims if not entry.problem]
    if not usable:
        hint = "uninstall one of them, or name the package to load in CNCTL_PLUGINS"
        raise CnctlError(claims[0].problem, hint=hint)
    return usable[0]


def note_unreadable_metadata() -> None:
    """Say once that a package's metadata could not be read."""
    trouble = read_entries(tuple(sys.path))[1]
    if trouble:
        _log_once(f"a package's metadata is malformed and was left out ({trouble})")


def _unknown(name: str) -> UnknownCondition:
    from difflib import get_close_matches

    allowed = os.environ.get("CNCTL_PLUGINS")
    if any(entry.name == name for entry in read_entries(tuple(sys.path))[0]):
        return UnknownCondition(
            f"condition {name!r} is installed, but CNCTL_PLUGINS={allowed!r} excludes it",
            hint=f"add {name} to CNCTL_PLUGINS, or unset it",
        )
    known = condition_names()
    near = get_close_matches(name, known, n=1)
    guess = f"; nearest is {near[0]!r}" if near else ""
    listed = f"installed: {', '.join(known)}" if known else "no condition is installed"
    return UnknownCondition(f"unknown condition {name!r}{guess}", hint=listed)


def _is_allowed(entry: Entry) -> bool:
    """CNCTL_PLUGINS lists condition or package names; unset allows all, empty allows none."""
    allowed = os.environ.get("CNCTL_PLUGINS")
    if allowed is None:
        return True
    names = {normal(name.strip()) for name in allowed.split(",")}
    return normal(entry.name) in names or entry.distribution in names


def _rivalry(entry: Entry, entries: list[Entry]) -> str:
    """Return why this entry cannot have its name: cnctl's own goes first, others conflict."""
    claims = [other for other in entries if other.name == entry.name]
    own = [other for other in claims if other.distribution == OWN_DISTRIBUTION]
    if len(claims) == 1 or own == [entry]:
        return ""
    if len(own) == 1:
        return f"{entry.claim}: the name is taken by {own[0].provider}"
    rivals = ", ".join(f"{other.provider} ({other.value})" for other in claims if other != entry)
    return f"{entry.claim}: the name is also claimed by {rivals}"


@cache
def _log_once(text: str) -> None:
    import logging

    logging.getLogger("cnctl").warning(text)
