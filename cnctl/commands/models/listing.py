"""Which models are installed, and which others the installed conditions recommend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from cnctl.commands.models.disk import size_on_disk
from cnctl.commands.models.hub_cache import cached_models
from cnctl.commands.models.model import Model
from cnctl.commands.shared.cached import find_installed
from cnctl.commands.shared.known_controls import known_weights
from cnctl.errors import CnctlError, MissingError
from cnctl.hints.files import find_file, title
from cnctl.hints.hub_models import HUB_MODELS
from cnctl.models.locate import EMBEDDED, SHORT_NAMES, locate_base
from cnctl.models.location import read_defaults
from cnctl.models.published import BASES, listed_name
from cnctl.plugin import Condition, WeightFile
from cnctl.registry import find_entry, list_conditions

EMBEDDED_LICENCE = "Apache-2.0"
FAMILIES = (*EMBEDDED, *dict.fromkeys(base.family for base in BASES.values()))
KINDS = ("base", "control", "detector", "captioner", "metric")


def list_models(*, family: str = "", condition: str = "", installed: bool = False) -> list[Model]:
    """Returns what fits all that is asked for, installed or not, the installed first in each kind.

    family: as a base or its family is named, "sdxl" or "SDXL"; upper case, blanks and dots do not
    matter. condition: one that is installed. "" asks for nothing. Raises CnctlError for a name
    that is not known.
    """
    if condition:
        find_entry(condition)
    models = [*_bases(), *_controls(), *_detectors(), *_others()]
    models += cached_models(known={model.hub_id for model in models})
    names = _families(models, family) if family else {}
    return [
        model
        for model in sorted(models, key=_order)
        if (not family or model.family in names)
        and (not condition or condition in model.conditions)
        and (not installed or model.installed)
    ]


def _order(model: Model) -> tuple[int, int, bool]:
    """Sorts by kind, ControlNets by family in the order of the bases, and the installed first."""
    by_family = model.kind == "control" and model.family in FAMILIES
    family = FAMILIES.index(model.family) if by_family else len(FAMILIES)
    return KINDS.index(model.kind), family, not model.installed


def _families(models: Iterable[Model], asked: str) -> set[str]:
    """The families that a person means: by a base's short name, or as the name begins."""
    known = {model.family for model in models if model.family}
    if asked in BASES:
        return {BASES[asked].family}
    plain = _plain(asked)
    found = {name for name in known if plain == _plain(name)}
    found = found or {name for name in known if plain and _plain(name).startswith(plain)}
    if not found:
        raise CnctlError(
            f"no models of a family {asked!r}", hint=f"families are {', '.join(sorted(known))}"
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _bases() -> Iterator[Model]:
    for name in SHORT_NAMES:
        known = BASES.get(name)
        model = Model(
            kind="base",
            name=name,
            family=known.family if known else name,
            licence=known.licence if known else EMBEDDED_LICENCE,
            hub_id=known.ids[0] if known else "",
            pull=name,
        )
        try:
            location = locate_base(name)
        except MissingError:
            yield model
            continue
        defaults = read_defaults(location.path)
        about = ". ".join(defaults[key] for key in ("summary", "limits") if key in defaults)
        yield replace(
            model,
            path=location.path,
            size=size_on_disk([location.path]),
            hub_id=location.name if known else "",
            about=about,
        )


def _controls() -> list[Model]:
    """Each ControlNet once, with all conditions that it serves."""
    found: dict[str, Model] = {}
    for condition in _conditions():
        for known in known_weights(condition):
            if known.source in found:
                found[known.source] = _serving(found[known.source], condition.name)
                continue
            path = find_installed(known)
            found[known.source] = Model(
                kind="control",
                name=listed_name(known),
                family=known.family,
                conditions=(condition.name,),
                licence=known.licence,
                hub_id="" if known.embedded else known.source,
                file=known.file,
                path=path,
                size=size_on_disk([path]) if path else 0,
                pull=known.family if known.embedded else listed_name(known),
            )
    return list(found.values())


def _detectors() -> list[Model]:
    """Each file of a detector once, with all conditions that read it."""
    found: dict[str, Model] = {}
    for condition in _conditions():
        for file in condition.files.values():
            name = title(file)
            if name in found:
                found[name] = _serving(found[name], condition.name)
            else:
                found[name] = _in_file("detector", file, condition.name, (condition.name,))
    return list(found.values())


def _others() -> Iterator[Model]:
    return (_in_file(kind, file, name, ()) for name, (kind, file) in HUB_MODELS.items())


def _in_file(kind: str, file: WeightFile, pull: str, conditions: tuple[str, ...]) -> Model:
    path: Path | None = None
    about = ""
    try:
        path = find_file(file)
    except CnctlError as error:
        about = f"{error}; {error.hint}"
    return Model(
        kind=kind,
        name=title(file),
        conditions=conditions,
        licence=file.licence,
        hub_id=file.repo,
        file=file.filename,
        path=path,
        size=size_on_disk([path]) if path else file.size,
        pull=pull,
        about=about,
    )


def _conditions() -> list[Condition]:
    return [entry.condition for entry in list_conditions() if entry.condition]


def _serving(model: Model, condition: str) -> Model:
    return replace(model, conditions=tuple(dict.fromkeys((*model.conditions, condition))))
