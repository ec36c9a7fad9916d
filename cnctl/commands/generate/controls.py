"""`--cond` in `cnctl generate`: what it asks for, its network in memory, and its hint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnctl.commands.generate.request import ControlSpec
from cnctl.commands.shared.weights import add_base_updates, locate_control, open_control
from cnctl.errors import CnctlError
from cnctl.hints.detector import Detector
from cnctl.hints.run import check_options, parse_options
from cnctl.images import fit_image, read_hint
from cnctl.models.base import Base
from cnctl.models.control import MODES, Control, check_scale_counts
from cnctl.models.network import Network, hint_tensor
from cnctl.plugin import Condition, OptionValue
from cnctl.settings import GenerateSettings

ACTS = ("scale", "start", "end", "mode")
"""Settings that a control may have of its own; in `GenerateSettings` they begin with control_."""


@dataclass(frozen=True, kw_only=True)
class LoadedControl:
    """A control with its condition, detector and network in memory, and its settings resolved."""

    condition: Condition
    options: Mapping[str, OptionValue]
    detect: Detector
    network: Network
    weights: Path
    """The file that the network was read from."""
    given: str
    """What it was named: a hub id, the last part of a path, or "" for the base's own."""
    ready: bool
    """Whether what it reads are hints already."""
    region: np.ndarray | None
    """Float32 (H, W) in [0, 1], of any size."""
    spec: ControlSpec

    def acts(self, settings: GenerateSettings) -> dict[str, Any]:
        """How it acts: scale, start, end, mode, step_scales, residual_scales."""
        return _resolve_acts(self.spec, settings)

    def check(self, settings: GenerateSettings) -> None:
        """CnctlError where its scales are not as many as steps or residuals."""
        if not self.network.replaces_base:
            acts = Control(self.network, hint=torch.empty(0), **self.acts(settings))
            check_scale_counts(acts, settings.steps)

    def attach(
        self, base: Base, hints: Sequence[np.ndarray], settings: GenerateSettings
    ) -> tuple[Base, list[Control]]:
        """Itself on a base with the hint of each image, uint8 (H, W, C), all of one size.

        What to sample from, and by which controls.
        """
        # One hint for all images is encoded once.
        distinct = hints[:1] if all(hint is hints[0] for hint in hints) else hints
        tensor = hint_tensor(distinct, channels=self.network.hint_channels)
        region = None
        if self.region is not None:
            fitted = fit_image(self.region, size=hints[0].shape[:2])
            region = torch.from_numpy(fitted)[None, None]
        return self.network.attach(base, tensor, region=region, **self.acts(settings))


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
    """The control without what it says itself of these settings, so that they decide."""
    said = {name: None for name in ACTS if f"control_{name}" in settings}
    return replace(spec, **said)  # type: ignore[arg-type]


def parse_all_options(
    conditions: Sequence[Condition], assignments: Sequence[str]
) -> list[dict[str, OptionValue]]:
    """All options of each condition's detector; assignments are for a condition that is alone."""
    if assignments and len(conditions) > 1:
        raise CnctlError(
            "--option is for one condition, but several are named",
            hint="make their hints first with cnctl annotate, then pass --hint",
        )
    return [
        check_options(condition, parse_options(condition, assignments)) for condition in conditions
    ]


def load_controls(
    controls: Sequence[ControlSpec],
    conditions: Sequence[Condition],
    base: Base,
    settings: GenerateSettings,
    *,
    options: Sequence[Mapping[str, OptionValue]],
    regions: Sequence[np.ndarray | None],
    weights: Sequence[str],
    ready: bool,
) -> list[LoadedControl]:
    """Load the ControlNets; each control's settings are its own, else the common ones.

    ready: all sources are hints.

    Where one was trained together with its base, the base takes up what it has learnt.
    """
    if weights and len(weights) != len(controls):
        raise CnctlError(
            f"{len(weights)} --control for {len(controls)} --cond",
            hint="give one for each, in the same order, or none",
        )
    named = [name or None for name in weights] or [None] * len(controls)
    branches, places = [], []
    given = zip(controls, conditions, options, regions, named, strict=True)
    for control, condition, chosen, region, name in given:
        _resolve_acts(control, settings)  # what is out of range is told before anything loads
        found = locate_control(condition, base, weights=name)
        branches.append(
            LoadedControl(
                condition=condition,
                options=chosen,
                detect=Detector(condition, device=str(base.offload_device)),
                network=open_control(condition, base, weights=str(found)),
                given=_without_folders(name or ""),
                weights=base.family.weights_file(found),
                ready=ready or control.ready,
                region=region,
                spec=control,
            )
        )
        places.append(found)
    for branch in branches:
        _check_attached(branch, settings, alone=len(branches) == 1)
    add_base_updates(base, places)
    return branches


def _check_attached(branch: LoadedControl, settings: GenerateSettings, *, alone: bool) -> None:
    """Refuse what a network in the place of the base's cannot do."""
    if not branch.network.replaces_base:
        return
    usual = _resolve_acts(ControlSpec(condition=branch.condition.name), GenerateSettings())
    if not alone or branch.region is not None or branch.acts(settings) != usual:
        raise CnctlError(
            f"{branch.weights.parent} was trained by {branch.network.method}: it takes the "
            "place of the base's network and always reads one hint",
            hint="use it alone, without scale, interval, mode or region",
        )


def _one_each(flag: str, values: Sequence[str], count: int) -> list[str]:
    """One value for each control; "" for all where none is given."""
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


def read_region(path: Path | str | None) -> np.ndarray | None:
    """Where a control acts, float32 (H, W) in [0, 1], of any size; None for everywhere."""
    if path is None:
        return None
    return read_hint(path, channels=1)[..., 0].astype(np.float32) / 255


def _without_folders(name: str) -> str:
    """A hub id as it is; of a path the last part, which is all that others may see."""
    return Path(name).name if Path(name).exists() else name


def _resolve_acts(control: ControlSpec, settings: GenerateSettings) -> dict[str, Any]:
    common = {name: getattr(settings, f"control_{name}") for name in ACTS}
    own = {name: getattr(control, name) for name in ACTS}
    acts = common | {name: value for name, value in own.items() if value is not None}
    if not 0 <= acts["start"] <= acts["end"] <= 1:
        raise CnctlError(
            f"{control.condition} cannot control from {acts['start']} to {acts['end']}",
            hint="give fractions of the run with 0 <= start <= end <= 1",
        )
    if acts["mode"] not in MODES:
        raise CnctlError(
            f"control mode {acts['mode']!r} is unknown", hint=f"use {', '.join(MODES)}"
        )
    scales = {"step_scales": control.step_scales, "residual_scales": control.residual_scales}
    return acts | scales
