"""Find the installed conditions: entry points of the group `cnctl.conditions`.

Names come from package metadata, so listing them imports no plugin. A plugin is imported when its
condition is used, and a broken plugin affects no other.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from cnctl.errors import CnctlError, MissingError
from cnctl.plugin import (
    Condition,
    GenerateDefaults,
    GroundTruth,
    Metric,
    Option,
    TrainDefaults,
    WeightFile,
    Weights,
)

GROUP = "cnctl.conditions"
OWN_DISTRIBUTION = "cnctl"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One claim to a condition name, as a package's metadata states it."""

    name: str
    value: str
    """Where the Condition is: "module:attribute"."""
    distribution: str
    """The package, spelt as PEP 503 normalises names."""
    version: str
    problem: str = ""
    """Why it cannot be used, in one sentence; "" where it can or has not been tried."""
    condition: Condition | None = None
    """Filled by `list_conditions` where the plugin loads."""

    @property
    def provider(self) -> str:
        return f"{self.distribution} {self.version}".strip()

    @property
    def claim(self) -> str:
        return f"condition {self.name!r} ({self.provider})"

    @property
    def module(self) -> str:
        return re.split(r"[:\[]", self.value)[0].strip()

    @property
    def summary(self) -> str:
        return " ".join(str(self.condition.summary).split()) if self.condition else ""


def condition_names() -> list[str]:
    """Return the names of the installed conditions, sorted. Imports no plugin."""
    return sorted({entry.name for entry in _installed_entries()})


def get_condition(name: str) -> Condition:
    """Return the condition of this name; CnctlError with the reason where it cannot be used."""
    return load_entry(find_entry(name))


def list_conditions() -> list[Entry]:
    """Return every entry, with its condition where that can be loaded, else with its problem."""
    _note_unreadable_metadata()
    return [_try_load(entry) for entry in _installed_entries()]


def find_entry(name: str) -> Entry:
    """Return the one usable entry of this name, without importing its plugin."""
    _note_unreadable_metadata()
    claims = [entry for entry in _installed_entries() if entry.name == name]
    if not claims:
        raise _unknown(name)
    usable = [entry for entry in claims if not entry.problem]
    if not usable:
        hint = "uninstall one of them, or name the package to load in CNCTL_PLUGINS"
        raise CnctlError(claims[0].problem, hint=hint)
    return usable[0]


def load_entry(entry: Entry) -> Condition:
    """Import the plugin of an entry; raise CnctlError, never SystemExit, where that fails."""
    from cnctl.system.isolation import isolated  # here: listing names needs no socket or ctypes

    try:
        with isolated():
            found = _import_value(entry.value)
    except (Exception, SystemExit) as error:
        kind = MissingError if isinstance(error, ModuleNotFoundError) else CnctlError
        raise kind(
            f"{entry.claim} failed to import: {_one_line(error)}",
            hint=f"fix, upgrade or uninstall {entry.distribution}; other conditions still work",
        ) from error
    fault = _fault(entry, found)
    if fault or not isinstance(found, Condition):
        raise CnctlError(
            f"{entry.claim}: {entry.value} {fault}",
            hint=f"tell the authors of {entry.distribution}; other conditions still work",
        )
    return found


def misfit(condition: Condition) -> str:
    """Return which field has a value of the wrong type, in words; "" where all are right."""
    items = [
        ("summary", condition.summary, str),
        ("licence", condition.licence, str),
        ("base", condition.base, str),
        ("hint_channels", condition.hint_channels, int),
        ("masked", condition.masked, bool),
        ("load_detector", condition.load_detector, Callable),
        ("training_options", condition.training_options, Callable | None),
        ("augment", condition.augment, Callable | None),
        ("flip", condition.flip, Callable | None),
        ("draw", condition.draw, Callable | None),
        ("from_maps", condition.from_maps, Callable | None),
        ("ground_truth", condition.ground_truth, GroundTruth | None),
        ("metric", condition.metric, str | Metric),
        ("train", condition.train, TrainDefaults),
        ("generate", condition.generate, GenerateDefaults),
        ("weights", condition.weights, list | tuple),
        ("references", condition.references, list | tuple),
        *((f"options[{name!r}]", option, Option) for name, option in condition.options.items()),
        *((f"files[{key!r}]", file, WeightFile) for key, file in condition.files.items()),
    ]
    for name, value, kind in items:
        if not isinstance(value, kind):  # type: ignore[arg-type]
            return f"has {name} of type {type(value).__name__}"
    if not all(isinstance(weights, Weights) for weights in condition.weights):
        return "has weights that are not cnctl.plugin.Weights"
    if not all(_is_colour(rgb) for rgb in condition.palette.values()):
        return "has a palette of other than (red, green, blue), each 0 to 255"
    return ""


def _is_colour(rgb: object) -> bool:
    return (
        isinstance(rgb, tuple | list)
        and len(rgb) == 3
        and all(isinstance(value, int) and 0 <= value <= 255 for value in rgb)
    )


def _try_load(entry: Entry) -> Entry:
    if entry.problem:
        return entry
    try:
        return replace(entry, condition=load_entry(entry))
    except CnctlError as error:
        return replace(entry, problem=str(error))


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


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _unknown(name: str) -> CnctlError:
    from difflib import get_close_matches

    allowed = os.environ.get("CNCTL_PLUGINS")
    if any(entry.name == name for entry in _read_entries(tuple(sys.path))[0]):
        return CnctlError(
            f"condition {name!r} is installed, but CNCTL_PLUGINS={allowed!r} excludes it",
            hint=f"add {name} to CNCTL_PLUGINS, or unset it",
        )
    known = condition_names()
    near = get_close_matches(name, known, n=1)
    guess = f"; nearest is {near[0]!r}" if near else ""
    listed = f"installed: {', '.join(known)}" if known else "no condition is installed"
    return CnctlError(f"unknown condition {name!r}{guess}", hint=listed)


def _installed_entries() -> list[Entry]:
    """Return the entries that CNCTL_PLUGINS allows, with a problem where the name is taken."""
    entries = [entry for entry in _read_entries(tuple(sys.path))[0] if _is_allowed(entry)]
    return [replace(entry, problem=_rivalry(entry, entries)) for entry in entries]


def _is_allowed(entry: Entry) -> bool:
    """CNCTL_PLUGINS lists condition or package names; unset allows all, empty allows none."""
    allowed = os.environ.get("CNCTL_PLUGINS")
    if allowed is None:
        return True
    names = {_normal(name.strip()) for name in allowed.split(",")}
    return _normal(entry.name) in names or entry.distribution in names


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
def _read_entries(path: tuple[str, ...]) -> tuple[list[Entry], str]:
    """Return the entries of all packages on this sys.path, and what could not be read.

    `entrypoints` stops at the first malformed entry_points.txt of any package; the packages
    are then read one by one. `path` is the key of the cache.
    """
    trouble = ""
    try:
        found = list(_read_all_at_once(path))
    except Exception as error:
        trouble = _one_line(error)
        found = list(_read_one_by_one(path))
    unique = {(e.name, e.distribution, e.value): e for e in reversed(found)}
    return [unique[key] for key in sorted(unique)], trouble


def _read_all_at_once(path: tuple[str, ...]) -> Iterator[Entry]:
    import warnings

    import entrypoints

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a malformed value is skipped with no more than a warning
        points = entrypoints.get_group_all(GROUP, path=list(path))
    for point in points:
        value = point.module_name + (f":{point.object_name}" if point.object_name else "")
        package, version = _normal(point.distro.name), point.distro.version or ""
        yield Entry(name=point.name, value=value, distribution=package, version=version)


def _read_one_by_one(path: tuple[str, ...]) -> Iterator[Entry]:
    from importlib.metadata import distributions

    seen = set()
    for package in distributions(path=list(path)):
        try:
            points = package.entry_points.select(group=GROUP)
            name, version = _normal(package.metadata["Name"]), package.version
        except Exception:
            continue  # another package's fault, and not one that can be fixed here
        if points and name not in seen:
            seen.add(name)
            for point in points:
                value = re.sub(r"\s+", "", point.value)
                yield Entry(name=point.name, value=value, distribution=name, version=version)


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _note_unreadable_metadata() -> None:
    trouble = _read_entries(tuple(sys.path))[1]
    if trouble:
        _log_once(f"a package's metadata is malformed and was left out ({trouble})")


@cache
def _log_once(text: str) -> None:
    import logging

    logging.getLogger("cnctl").warning(text)
