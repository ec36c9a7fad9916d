"""What the plan of a data set that `cnctl annotate` makes says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cnctl.data.columns import parse_columns
from cnctl.errors import CnctlError, shown

PLAN = "plan.json"
"""Written first."""
REPORT = "report.json"
"""Written last: the data set is finished where it is."""


def annotated_conditions(data: str | Path) -> list[str]:
    """The conditions of the hints in a data set, its split or one of its subsets; [] where annotate
    has not made them.
    """
    place = Path(data)
    plan = next((p for f in (place, *place.parents[:2]) if (p := f / PLAN).is_file()), None)
    try:
        recipe = json.loads(plan.read_bytes())["recipe"] if plan else {"hints": []}
        return [hint["condition"] for hint in recipe["hints"]]
    except (OSError, ValueError, KeyError, TypeError):  # a plan of something else
        return []


def note_other_condition(
    data: str, condition: str, *, columns: str | None, note: Callable[[str], None]
) -> None:
    """Say where annotate has made the hints that are read for another condition."""
    made_for = annotated_conditions(data)
    column = parse_columns(columns).get("hint")
    if column is not None:  # canny, canny.png, canny_file_name, or "" for hints that are detected
        called = column.removesuffix("_file_name").partition(".")[0]
        made_for = [name for name in made_for if name == called]
    if made_for and condition not in made_for:
        names = " and ".join(made_for)
        note(f"{shown(data)} holds hints of {names}, which are read as those of {condition}")


def check_finished(folder: Path) -> None:
    """Raise CnctlError for a folder that annotate has begun to fill, and not finished."""
    if (folder / PLAN).is_file() and not (folder / REPORT).is_file():
        raise CnctlError(
            f"{shown(folder)} is a data set that cnctl annotate has not finished",
            hint="give the same annotate command again; it does what is left",
        )
