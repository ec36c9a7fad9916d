"""The plan of a data set: its recipe, and its rows cut into shards, written once into the output.

A later run of the same output must have the same plan: a difference is an error, and nothing is
written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cnctl.curation.layout import PLAN, ROWS
from cnctl.curation.published import publish, publishing
from cnctl.curation.recipe import Recipe, recipe_from
from cnctl.curation.rows import Row, from_line, to_line
from cnctl.errors import CnctlError, OutputError, reading, shown

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """rows: how many. offsets: where each shard's rows begin in rows.jsonl, whose sha256 it has."""

    recipe: Recipe
    rows: int
    offsets: tuple[int, ...]
    sha256: str

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self.offsets)

    def first_row(self, shard: int) -> int:
        """The number of a shard's first row."""
        return shard * self.recipe.per_shard

    def count(self, shard: int) -> int:
        """How many rows a shard has."""
        return min(self.recipe.per_shard, self.rows - self.first_row(shard))

    @property
    def digest(self) -> str:
        """Differs for another recipe and other rows."""
        text = json.dumps([self.recipe.as_dict(), self.sha256], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def write_plan(out: Path, recipe: Recipe, rows: Iterable[Row]) -> Plan:
    """Write the plan of these rows, which are not kept in memory."""
    offsets: list[int] = []
    count = 0
    with publishing(out / ROWS) as file:
        for count, row in enumerate(rows, start=1):
            if (count - 1) % recipe.per_shard == 0:
                offsets.append(file.tell())
            file.write(to_line(row))
        if not count:
            raise CnctlError("there is nothing to do: no input is named", hint="name images")
        found = publish(file, out / ROWS)
    plan = Plan(recipe=recipe, rows=count, offsets=tuple(offsets), sha256=found.sha256)
    document = {
        "format": FORMAT,
        "recipe": recipe.as_dict(),
        "rows": count,
        "sha256": found.sha256,
        "offsets": offsets,
    }
    with publishing(out / PLAN) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())
        publish(file, out / PLAN)
    return plan


def read_plan(out: Path) -> Plan | None:
    """The plan in a folder; None where there is none. OutputError where it is not one of ours."""
    path = out / PLAN
    if not path.is_file():
        return None
    if not (out / ROWS).is_file():
        raise OutputError(f"{shown(out / ROWS)} is missing", hint="choose a new -o")
    try:
        document = json.loads(path.read_bytes())
        assert document["format"] == FORMAT
        return Plan(
            recipe=recipe_from(document["recipe"]),
            rows=document["rows"],
            offsets=tuple(document["offsets"]),
            sha256=document["sha256"],
        )
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise OutputError(
            f"{shown(path)} was not written by this version of cnctl", hint="choose a new -o"
        ) from error


def shard_rows(out: Path, plan: Plan, shard: int) -> list[Row]:
    """The rows of a shard."""
    with reading(out / ROWS), (out / ROWS).open("rb") as file:
        file.seek(plan.offsets[shard])
        return [from_line(file.readline()) for _ in range(plan.count(shard))]


def check_recipe(out: Path, plan: Plan, recipe: Recipe) -> None:
    """Raise OutputError that names the options which differ from those of the plan."""
    found = [*_differences(_by_condition(plan.recipe), _by_condition(recipe))]
    if found:
        raise OutputError(
            f"{shown(out)} was begun with other options: {'; '.join(found)}",
            hint="give the same, or choose a new -o",
        )


def check_rows(out: Path, rows: Iterable[Row]) -> None:
    """Raise OutputError that names the first row which differs from that of the plan."""
    with (out / ROWS).open("rb") as file:
        for number, (planned, row) in enumerate(zip_longest(file, rows)):
            line = None if row is None else to_line(row)
            if line != planned:
                raise OutputError(
                    f"{shown(out)} was begun with other inputs: row {number} was "
                    f"{_called(planned)}, and is {_called(line)} now",
                    hint="give the same, or choose a new -o",
                )


def _called(line: bytes | None) -> str:
    if line is None:
        return "absent"
    row = from_line(line)
    return f"{shown(row.name)} ({row.size} bytes)" if row.size >= 0 else shown(row.name)


def _by_condition(recipe: Recipe) -> dict[str, Any]:
    document = recipe.as_dict()
    return {**document, "hints": {hint["condition"]: hint for hint in document["hints"]}}


def _differences(
    planned: Mapping[str, Any], given: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    for name in sorted(planned.keys() | given.keys()):
        was, now = planned.get(name), given.get(name)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _differences(was, now, f"{prefix}{name}.")
        elif _plain(was) != _plain(now):
            yield f"{prefix}{name} was {_said(was)}, and is {_said(now)} now"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _said(value: Any) -> str:
    if value is None or isinstance(value, Mapping):
        return "not given" if value is None else "given"
    return json.dumps(value, ensure_ascii=False)
