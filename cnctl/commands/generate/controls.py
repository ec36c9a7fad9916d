"""`--cond` in `cnctl generate`, as text and as `ControlSpec`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnctl.commands.generate.request import ControlSpec
from cnctl.errors import CnctlError
from cnctl.hints.options import check_options, parse_options
from cnctl.plugin import Condition, OptionValue

ACTS = ("scale", "start", "end", "mode")
"""Settings that each control may have itself; `GenerateSettings` has them with control_ before."""

NUMBER = r"\d*\.?\d+"
NUMBERS = r"[-+.,\d][-+.,\deE]*"
"""What is meant as a scale or an interval, right or wrong."""


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
    """Read NAME[:[hint=]SOURCE[:SCALE[:START-END]]], e.g. "canny:hint=edges.png:0.8:0-0.6".

    Parts in the middle may be empty: "canny:edges.png::0-0.6".
    """
    match = re.fullmatch(
        rf"(?P<condition>[^:]+)"
        rf"(:(?P<ready>hint=)?(?P<source>.*?)(:(?P<scale>{NUMBERS})?(:(?P<part>{NUMBERS}))?)?)?",
        text,
    )
    if match is None:
        raise CnctlError(
            f"--cond {text!r} is not NAME[:[hint=]SOURCE[:SCALE[:START-END]]]",
            hint="for example --cond canny:edges.png:0.8:0-0.6",
        )
    source = Path(match["source"]) if match["source"] else None
    if match["ready"] and not source:
        raise CnctlError(
            f"--cond {text!r} names no source", hint="for example canny:hint=edges.png"
        )
    start, end = _interval(text, match["part"])
    return ControlSpec(
        condition=match["condition"],
        source=source,
        ready=bool(match["ready"]),
        scale=_scale(text, match["scale"]),
        start=start,
        end=end,
    )


def _scale(text: str, scale: str | None) -> float | None:
    if scale and not re.fullmatch(NUMBER, scale):
        raise CnctlError(
            f"--cond {text!r}: the scale is {scale!r}; it must be a number of at least 0",
            hint="for example --cond canny:edges.png:0.8",
        )
    return float(scale) if scale else None


def _interval(text: str, part: str | None) -> tuple[float | None, float | None]:
    if not part:
        return None, None
    match = re.fullmatch(rf"({NUMBER})-({NUMBER})", part)
    if match is None:
        raise CnctlError(
            f"--cond {text!r}: the interval is {part!r}; it must be START-END, two numbers "
            "from 0 to 1, ends included",
            hint="for example --cond canny:edges.png:0.8:0-0.6",
        )
    return float(match[1]), float(match[2])


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
