"""Read the entry points of installed packages, also where the metadata of some is malformed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from cnctl.errors import describe_error
from cnctl.plugin import Condition

GROUP = "cnctl.conditions"


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
        return " ".join(self.condition.summary.split()) if self.condition else ""


@cache
def read_entries(path: tuple[str, ...]) -> tuple[list[Entry], str]:
    """Return the entries of all packages on this sys.path, and what could not be read.

    `entrypoints` stops at the first malformed entry_points.txt of any package; the packages
    are then read one by one. `path` is the key of the cache.
    """
    trouble = ""
    try:
        found = list(_read_all_at_once(path))
    except Exception as error:
        trouble = describe_error(error)
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
        package, version = normal(point.distro.name), point.distro.version or ""
        yield Entry(name=point.name, value=value, distribution=package, version=version)


def _read_one_by_one(path: tuple[str, ...]) -> Iterator[Entry]:
    from importlib.metadata import distributions

    seen = set()
    for package in distributions(path=list(path)):
        try:
            points = package.entry_points.select(group=GROUP)
            name, version = normal(package.metadata["Name"]), package.version
        except Exception:
            continue  # another package's fault, and not one that can be fixed here
        if points and name not in seen:
            seen.add(name)
            for point in points:
                value = re.sub(r"\s+", "", point.value)
                yield Entry(name=point.name, value=value, distribution=name, version=version)


def normal(distribution: str) -> str:
    """Return the name of a package as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
