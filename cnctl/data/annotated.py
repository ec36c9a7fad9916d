"""Whether a data set that `cnctl annotate` makes is finished."""

from __future__ import annotations

from pathlib import Path

from cnctl.errors import CnctlError, shown

PLAN = "plan.json"
"""Written first."""
REPORT = "report.json"
"""Written last: the data set is finished where it is."""


def check_finished(folder: Path) -> None:
    """Raise CnctlError for a folder that annotate has begun to fill, and not finished."""
    if (folder / PLAN).is_file() and not (folder / REPORT).is_file():
        raise CnctlError(
            f"{shown(folder)} is a data set that cnctl annotate has not finished",
            hint="give the same annotate command again; it does what is left",
        )
