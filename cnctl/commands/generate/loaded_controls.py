"""The controls of a run in memory: networks, detectors and regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnctl.commands.generate.controls import ACTS
from cnctl.commands.generate.models import Models
from cnctl.commands.generate.request import ControlSpec
from cnctl.commands.shared.weights import NamedControl, locate_control
from cnctl.errors import CnctlError, shown
from cnctl.hints.detector import Detector
from cnctl.images import fit_image
from cnctl.models.base import Base
from cnctl.models.control import MODES, Control, check_every, check_scale_counts
from cnctl.models.family import Family
from cnctl.models.network import INPUT_CONCAT, Network, hint_tensor
from cnctl.plugin import Condition, OptionValue
from cnctl.settings import GenerateSettings


def load_controls(
    controls: Sequence[ControlSpec],
    models: Models,
    settings: GenerateSettings,
    *,
    options: Sequence[Mapping[str, OptionValue]],
    regions: Sequence[np.ndarray | None],
    named: Sequence[NamedControl],
    ready: bool,
) -> list[LoadedControl]:
    """Load the networks, and into the base what was trained together with one of them.

    named: the weights of each control. options: those of each detector. regions: see `regions.py`.
    ready: all sources are hints. Raises CnctlError where a control's scale, interval or mode is out
    of range, before anything is loaded.
    """
    for control in controls:
        _resolve_acts(control, settings)
    base, loaded, places = models.base, [], []
    for control, names, chosen, region in zip(controls, named, options, regions, strict=True):
        condition, name, config = names
        found = locate_control(condition, base, weights=name)
        loaded.append(
            LoadedControl(
                condition=condition,
                options=chosen,
                detect=Detector(condition, device=str(base.offload_device)),
                network=models.open_network(names, found),
                given=_without_folders(name or ""),
                weights=base.family.weights_file(found),
                config=config,
                ready=ready or control.ready,
                region=region,
                spec=control,
            )
        )
        places.append(found)
    models.update_base(places)
    return loaded


def check_acts(
    controls: Sequence[ControlSpec],
    places: Sequence[Path],
    settings: GenerateSettings,
    family: Family,
    *,
    adapted: bool,
) -> None:
    """Raise CnctlError where weights at these places cannot act so; no tensor is read.

    adapted: whether LoRAs change the base.
    """
    for control, place in zip(controls, places, strict=True):
        acts = _resolve_acts(control, settings)
        residuals = family.count_residuals(place)
        if residuals is None:
            alone = len(controls) == 1
            _check_replacing(control, place, settings, alone=alone, adapted=adapted)
            continue
        check_scale_counts(
            acts["step_scales"],
            acts["residual_scales"],
            steps=settings.steps,
            residuals=residuals,
        )
        check_every(settings.control_every, reads_tokens=family.reads_tokens(place))


def name_weights(
    conditions: Sequence[Condition], weights: Sequence[str], configs: Sequence[Path | str]
) -> list[NamedControl]:
    """Each condition with its weights and their config; CnctlError for too few or too many."""
    for given, flag in ((weights, "--control"), (configs, "--config")):
        if given and len(given) != len(conditions):
            raise CnctlError(
                f"{len(given)} {flag} for {len(conditions)} --cond",
                hint="give one for each, in the same order, or none",
            )
    none = [""] * len(conditions)
    return [
        NamedControl(condition, name or None, Path(config) if config else None)
        for condition, name, config in zip(
            conditions, weights or none, configs or none, strict=True
        )
    ]


@dataclass(frozen=True, kw_only=True)
class LoadedControl:
    """A control with its condition, its detector and its network in memory."""

    condition: Condition
    options: Mapping[str, OptionValue]
    detect: Detector
    network: Network
    weights: Path
    """The file that the network was read from."""
    config: Path | None
    """The config.json that was given for it."""
    given: str
    """Its name in the request: a hub id, the last part of a path, or "" for the base's own."""
    ready: bool
    """Whether its sources are hints already."""
    region: np.ndarray | None
    """Float32 (H, W) in [0, 1], of any size."""
    spec: ControlSpec

    def acts(self, settings: GenerateSettings) -> dict[str, Any]:
        """Its scale, start, end, mode, step_scales and residual_scales with these settings."""
        return _resolve_acts(self.spec, settings)

    def attach(
        self,
        base: Base,
        hints: Sequence[np.ndarray],
        settings: GenerateSettings,
        *,
        to_fill_in: np.ndarray | None = None,
    ) -> tuple[Base, list[Control]]:
        """The base to sample from, and the controls to sample with.

        hints: that of each image, uint8 (H, W, C), all of one size. to_fill_in: an image, uint8
        (H, W, 4), with 0 behind its colours where they change, for networks that read it.
        """
        # One hint for all images is encoded once.
        distinct = hints[:1] if all(hint is hints[0] for hint in hints) else hints
        tensor = hint_tensor(distinct, channels=self.network.hint_channels)
        if to_fill_in is not None and self.network.reads_edit:
            behind = hint_tensor([to_fill_in] * len(tensor), channels=4)
            tensor = torch.cat([tensor, behind], dim=1)
        region = None
        if self.region is not None:
            fitted = fit_image(self.region, size=hints[0].shape[:2])
            region = torch.from_numpy(fitted)[None, None]
        return self.network.attach(base, tensor, region=region, **self.acts(settings))


def _check_replacing(
    control: ControlSpec, place: Path, settings: GenerateSettings, *, alone: bool, adapted: bool
) -> None:
    """Refuse what a network that replaces the base's cannot do."""
    usual = _resolve_acts(ControlSpec(condition=control.condition), GenerateSettings())
    changed = _resolve_acts(control, settings) != usual or settings.control_every != 1
    if not alone or control.region is not None or changed:
        raise CnctlError(
            f"{shown(place)} was trained by {INPUT_CONCAT}: it takes the "
            "place of the base's network and always reads one hint",
            hint="use it alone, without scale, interval, mode or region",
        )
    if adapted:
        raise CnctlError(
            "a LoRA changes the base's network, and this control replaces that network",
            hint="leave out --lora",
        )


def note_detected_masks(controls: Sequence[LoadedControl], *, note: Callable[[str], None]) -> None:
    """Report which controls fill in a part that their detector chooses, and not the user."""
    for control in controls:
        if control.condition.masked and not control.ready:
            note(
                f"{control.condition.name} masks a part of the image at random; to choose it, give "
                "--image and --mask, or an image with that part transparent and --hint"
            )


def note_without_effect(
    controls: Sequence[LoadedControl], settings: GenerateSettings, *, note: Callable[[str], None]
) -> None:
    """Report which controls act in no step, or nowhere in the image."""
    for control in controls:
        if control.network.replaces_base:
            continue
        name, acts, steps = control.condition.name, control.acts(settings), settings.steps
        if control.region is not None and not control.region.any():
            note(
                f"the region of {name} is black, so {name} controls nothing; white is where it acts"
            )
        elif not any(
            Control(control.network, torch.empty(0), **acts).acts_at(step, steps)
            for step in range(steps)
        ):
            note(
                f"{name} acts in none of the {steps} steps (scale {acts['scale']:g}, from "
                f"{acts['start']:g} to {acts['end']:g}), so it controls nothing"
            )


def _without_folders(name: str) -> str:
    """A hub id unchanged; of a path the last part, so that a record names no folders."""
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
