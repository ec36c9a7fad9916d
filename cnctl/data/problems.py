"""What is wrong with a data set, or is not read of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnctl.errors import CnctlError, counted

TOLD = 5
"""Problems that a run names one by one."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one example or file. fatal: it would stop training; hint: what to do."""

    name: str
    what: str
    fatal: bool = False
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.what}" + (f" ({self.hint})" if self.hint else "")


def refuse_fatal(problems: Sequence[Problem]) -> None:
    """Raise CnctlError for the first of the problems that stop training."""
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        more = f"; and {len(fatal) - 1} more, which --check lists" * (len(fatal) > 1)
        raise CnctlError(f"{fatal[0].name}: {fatal[0].what}{more}", hint=fatal[0].hint)


def summarize(problems: Sequence[Problem]) -> list[str]:
    """Return a line for each of the first problems, and one for all others."""
    more = len(problems) - TOLD
    return [
        *map(str, problems[:TOLD]),
        *([f"{counted(more, 'more line')}, which --check prints"] if more > 0 else []),
    ]
