"""Import a plugin, and check what it exports."""

from __future__ import annotations

from cnctl.errors import CnctlError, MissingError, describe_error
from cnctl.plugin import Condition
from cnctl.registry.metadata import Entry
from cnctl.registry.misfit import misfit


def load_entry(entry: Entry) -> Condition:
    """Import the plugin of an entry; raise CnctlError, never SystemExit, where that fails."""
    from cnctl.system.isolation import isolated  # here: listing names needs no socket or ctypes

    try:
        with isolated():
            found = _import_value(entry.value)
    except (Exception, SystemExit) as error:
        kind = MissingError if isinstance(error, ModuleNotFoundError) else CnctlError
        raise kind(
            f"{entry.claim} failed to import: {describe_error(error)}",
            hint=f"fix, upgrade or uninstall {entry.distribution}; other conditions still work",
        ) from error
    fault = _fault(entry, found)
    if fault or not isinstance(found, Condition):
        raise CnctlError(
            f"{entry.claim}: {entry.value} {fault}",
            hint=f"report it to the authors of {entry.distribution}; other conditions still work",
        )
    return found


def _import_value(value: str) -> object:
    from importlib import import_module

    module, _, attributes = value.partition("[")[0].partition(":")
    found: object = import_module(module.strip())
    for attribute in filter(None, attributes.strip().split(".")):
        found = getattr(found, attribute)
    return found


def _fault(entry: Entry, found: object) -> str:
    if not isinstance(found, Condition):
        return f"is a {type(found).__name__}, not a cnctl.plugin.Condition"
    if found.name != entry.name:
        return f"is named {found.name!r}, unlike its entry point"
    return misfit(found)
