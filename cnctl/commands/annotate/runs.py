"""The conditions of a call, each with its options and resolution, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.shared.failures import FailedConditions
from cnctl.errors import CnctlError
from cnctl.hints.options import parse_options
from cnctl.images import shown
from cnctl.plugin import Condition, OptionValue
from cnctl.registry import get_condition
from cnctl.settings import AnnotateSettings, resolve


@dataclass(frozen=True, kw_only=True)
class Run:
    """One condition of this call, with its options and resolution."""

    condition: Condition
    options: Mapping[str, OptionValue]
    resolution: int


def named_conditions(request: AnnotateRequest) -> list[str]:
    """The names of the conditions that are asked for, each once."""
    given = request.conditions
    names = list(dict.fromkeys([given] if isinstance(given, str) else given))
    if not names:
        raise CnctlError("no condition is named", hint="name one: --cond canny")
    return names


def plan_runs(request: AnnotateRequest, failures: FailedConditions) -> list[Run]:
    """The conditions that are named, with their options checked, but for those that fail to load.

    CnctlError where a name is unknown, or no condition is left.
    """
    names = named_conditions(request)
    conditions = []
    for name in names:
        with failures.of(name):
            conditions.append(get_condition(name))
    return [
        Run(
            condition=condition,
            options=parse_options(condition, _assignments_for(condition, names, request.options)),
            resolution=_resolution(condition, request.resolution),
        )
        for condition in conditions
    ]


def check_ground_truth(request: AnnotateRequest, runs: Sequence[Run]) -> None:
    """Refuse maps that are not there, or that a condition does not read."""
    if request.ground_truth is None:
        return
    if not Path(request.ground_truth).is_dir():
        raise CnctlError(
            f"--ground-truth {shown(request.ground_truth)} is not a folder of maps",
            hint="name the folder with the maps, in the same subfolders as the images",
        )
    for run in runs:
        if run.condition.ground_truth is None:
            raise CnctlError(
                f"{run.condition.name} does not read ground truth",
                hint="leave out --ground-truth to detect its hints",
            )


def _assignments_for(
    condition: Condition, names: Sequence[str], assignments: Sequence[str]
) -> list[str]:
    """The part of "--option" meant for this condition: "blur.radius=4" where there are several."""
    if len(names) == 1:
        return [text.removeprefix(f"{condition.name}.") for text in assignments]
    owners = [text.partition("=")[0].partition(".")[0] for text in assignments]
    for text, owner in zip(assignments, owners, strict=True):
        if owner not in names:
            raise CnctlError(
                f"--option {text} does not name its condition",
                hint=f"write {names[0]}.{text}",
            )
    prefix = f"{condition.name}."
    return [text.removeprefix(prefix) for text in assignments if text.startswith(prefix)]


def _resolution(condition: Condition, given: int | None) -> int:
    of_condition = {"resolution": condition.train.resolution}
    chosen = resolve(AnnotateSettings, of_condition, flags={"resolution": given}).resolution
    if chosen < 8:
        raise CnctlError(f"--resolution {chosen} is too small", hint="try 512")
    return chosen
