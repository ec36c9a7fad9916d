"""Which base and which ControlNet a command uses when the user names none, or a short name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from cnctl.commands.shared.bases import choose_base
from cnctl.commands.shared.cached import find_known, find_named
from cnctl.errors import CnctlError, MissingError
from cnctl.models.base import Base
from cnctl.models.base_update import add_base_update
from cnctl.models.families import find_family, load_base
from cnctl.models.family import Family
from cnctl.models.layouts import find_layout
from cnctl.models.locate import default_base
from cnctl.models.network import Network
from cnctl.models.reading import report_reading, size_of
from cnctl.plugin import Condition, Weights
from cnctl.settings import common_settings
from cnctl.tensorfiles.base_update_file import load_base_update

Note = Callable[[str], None]


def open_base(
    source: str | Path | None,
    *,
    device: str | None,
    dtype: str | None,
    low_memory: bool = False,
    weights: bool = True,
    denoiser: bool = True,
    note: Note = lambda text: None,
) -> Base:
    """Load the named base, else the config file's, else the default one; as `load_base`.

    `note` hears which default it is, and what was assumed of it.
    """
    source = source or common_settings().base
    if source is None:
        location = default_base()
        source = location.name
        note(location.reason)
    base = load_base(
        source,
        device=device,
        dtype=dtype,
        low_memory=low_memory,
        weights=weights,
        denoiser=denoiser,
    )
    if base.assumed:
        note(base.assumed)
    return base


def check_controls(
    source: str | Path | None,
    controls: Iterable[NamedControl],
    *,
    note: Note = lambda text: None,
) -> None:
    """Raise CnctlError where weights are missing or do not fit the base; no tensor is read.

    source: the base, as for `open_base`. note: hears what is assumed of weights that do not say it.
    """
    location = choose_base(source)
    base = LocatedBase(location.path, find_family(location))
    for condition, weights, config in controls:
        place = locate_control(condition, base, weights=weights)
        assumed = base.family.check_weights(
            place,
            location,
            condition=condition.name,
            hint_channels=condition.hint_channels,
            masked=condition.masked,
            control_type=_control_type(condition, base.family),
            config=config,
        )
        for text in assumed:
            note(f"{place.name}: {text}")


class NamedControl(NamedTuple):
    """A condition, and what the user names for it; None: what the base or the condition brings."""

    condition: Condition
    weights: str | None = None
    """As for `open_control`."""
    config: Path | None = None
    """A config.json for weights that have none."""


class LocatedBase(NamedTuple):
    """A base before any of it is loaded."""

    path: Path
    family: Family


def open_control(
    condition: Condition,
    base: Base,
    *,
    weights: str | None = None,
    config: Path | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """The network for a condition on this base; families and channels are checked before it loads.

    weights: a folder, a run of `cnctl train`, a file, a cached hub id, or None for the one that
    the base brings along or that the condition recommends for the base's family. config: a
    config.json for weights that have none. dtype: None is the base's.
    """
    place = locate_control(condition, base, weights=weights)
    report_reading(f"ControlNet for {condition.name}", 0, size_of(place))
    return base.family.open_network(
        place,
        base,
        condition=condition.name,
        hint_channels=condition.hint_channels,
        masked=condition.masked,
        control_type=_control_type(condition, base.family),
        config=config,
        dtype=dtype,
    )


def _control_type(condition: Condition, family: Family) -> int | None:
    """The kind that its hints are to a union of this family; None for none."""
    own = (known.control_type for known in condition.weights if known.family == family.name)
    known = family.control_types.get(condition.name)
    return next((kind for kind in own if kind is not None), known)


def _published(condition: Condition, family: Family) -> tuple[Weights, ...]:
    """ControlNets for a condition on bases of this family, best first."""
    of_plugin = tuple(known for known in condition.weights if known.family == family.name)
    return of_plugin + family.controlnets.get(condition.name, ())


def add_base_updates(base: Base, sources: Iterable[Path]) -> None:
    """Bring the base to where it was when these weights were trained together with it."""
    for source in dict.fromkeys(sources):
        add_base_update(base.denoiser, load_base_update(source).items())


def locate_control(
    condition: Condition, base: Base | LocatedBase, *, weights: str | None = None
) -> Path:
    """The path of this control's weights.

    MissingError says how to get them; CnctlError names a file that is not a supported ControlNet.
    """
    if weights is not None:
        given = _find(weights, base)
        _check_family(given, base.family)
        return given
    own = base.path / "controls" / condition.name
    if own.is_dir():
        return own
    fitting = _published(condition, base.family)
    for known in fitting:
        if found := find_known(known, base.path):
            return found
    fetch = f"fetch one: cnctl models pull {fitting[0].source}" if fitting else ""
    raise MissingError(
        f"no ControlNet for {condition.name} on {base.family.name} is installed",
        hint=fetch or f"train one: cnctl train --cond {condition.name}, or name one: --control",
    )


def _check_family(given: Path, family: Family) -> None:
    """Raise CnctlError for weights of which another folder of families knows the layout."""
    layout = find_layout(given)
    if layout is not family.layout:
        made_for = layout.describe(given).family or "another family"
        raise CnctlError(
            f"this ControlNet was made for {made_for}; the base is {family.name}",
            hint=f"choose a base of {made_for}, or a ControlNet for {family.name}",
        )


def _find(weights: str, base: Base | LocatedBase) -> Path:
    return base.family.find_weights(Path(weights)) or find_named(weights)
