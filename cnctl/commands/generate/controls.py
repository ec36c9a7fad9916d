"""`--cond` in `cnctl generate`, as text and as `ControlSpec`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnctl.commands.generate.request import ControlSpec
from cnctl.errors import CnctlError
from cnctl.hints.run import check_options, parse_options
from cnctl.plugin import Condition, OptionValue

ACTS = ("scale", "start", "end", "mode")
"""Settings that each control may have itself; `GenerateSettings` has them with control_ before."""


def parse_controls(
    conditions: Sequence[str],
    *,
    modes: Sequence[str] = (),
    step_scales: Sequence[str] = (),
    residual_scales: Sequence[str] = (),
    regions: Sequence[str] = (),
) -> list[ControlSpec]:
    """Read `--cond` and the flags that are given once for all of them, or once for each."""
    count = len(conditions)
    specs = map(parse_control, conditions)
    columns = zip(
        specs,
        _one_each("--control-mode", modes, count),
        _one_each("--step-scales", step_scales, count),
        _one_each("--residual-scales", residual_scales, count),
        _one_each("--region", regions, count),
        strict=True,
    )
    return [
        replace(
            spec,
            mode=mode or None,
            step_scales=_numbers("--step-scales", steps),
            residual_scales=_numbers("--residual-scales", residuals),
            region=Path(region) if region else None,
        )
        for spec, mode, steps, residuals, region in columns
    ]


def parse_control(text: str) -> ControlSpec:
    """Read NAME[:[hint=]SOURCE[:SCALE[:START-END]]], e.g. "canny:hint=edges.png:0.8:0-0.6"."""
    number = r"\d*\.?\d+"
    match = re.fullmatch(
        rf"(?P<condition>[^:]+)(:(?P<ready>hint=)?(?P<source>.*?)"
        rf"(:(?P<scale>{number})(:(?P<start>{number})-(?P<end>{number}))?)?)?",
        text,
    )
    if match is None:
        raise CnctlError(
            f"--cond {text!r} is not NAME[:[hint=]SOURCE[:SCALE[:START-END]]]",
            hint="for example --cond canny:edges.png:0.8:0-0.6",
        )
    part = match.groupdict()
    scale, start, end = (float(part[k]) if part[k] else None for k in ("scale", "start", "end"))
    source = Path(part["source"]) if part["source"] else None
    if part["ready"] and not source:
        raise CnctlError(f"--cond {text!r} names no hint", hint="for example canny:hint=edges.png")
    return ControlSpec(
        condition=part["condition"],
        source=source,
        ready=bool(part["ready"]),
        scale=scale,
        start=start,
        end=end,
    )


def defer_to(settings: Mapping[str, Any], spec: ControlSpec) -> ControlSpec:
    """The control without its own values of these settings, so that the settings decide."""
    unset = {name: None for name in ACTS if f"control_{name}" in settings}
    return replace(spec, **unset)  # type: ignore[arg-type]


def parse_all_options(
    conditions: Sequence[Condition], assignments: Sequence[str]
) -> list[dict[str, OptionValue]]:
    """All options of each condition's detector; assignments are for a single condition."""
    if assignments and len(conditions) > 1:
        raise CnctlError(
            "--option is for one condition, but several are named",
            hint="make their hints first with cnctl annotate, then pass --hint",
        )
    return [
        check_options(condition, parse_options(condition, assignments)) for condition in conditions
    ]


def _one_each(flag: str, values: Sequence[str], count: int) -> list[str]:
    """One value for each control; all are "" if `values` is empty."""
    if len(values) not in (0, 1, count):
        raise CnctlError(
            f"{len(values)} {flag} for {count} --cond", hint="give one for all, or one for each"
        )
    return [*values] if len(values) == count else [*(values or [""])] * count


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(",")) if text else ()
    except ValueError as error:
        raise CnctlError(
            f"{flag} {text!r} is not a list of numbers", hint=f"for example {flag} 1,0.5,0"
        ) from error
