"""Remove a model from the hub's cache, with the copy that was converted from it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cnctl.commands.models.disk import size_on_disk
from cnctl.commands.models.hub_cache import cached_folder
from cnctl.commands.models.listing import list_models
from cnctl.commands.models.model import Model
from cnctl.errors import CnctlError, MissingError, writing
from cnctl.hints.files import converted_copy


@dataclass(frozen=True)
class Removal:
    """What is removed: files and folders, and how many bytes they take."""

    paths: tuple[Path, ...]
    size: int
    conditions: tuple[str, ...]
    """Those that read it."""


def remove(name: str, *, dry_run: bool = False) -> Removal:
    """Remove what `pull` fetches by this name; with dry_run, only say what that is.

    Raises MissingError where it is not installed, and CnctlError for what is not in the hub's
    cache: what comes with cnctl, or is in the user's own folder.
    """
    models = _find(name)
    found = [path for model in models for path in _files(model)]
    paths = tuple(dict.fromkeys(found))
    if not paths:
        raise _refusal(name, models)
    conditions = tuple(dict.fromkeys(each for model in models for each in model.conditions))
    removal = Removal(paths, size_on_disk(paths), conditions)
    if not dry_run:
        for path in paths:
            _remove(path)
    return removal


def _find(name: str) -> list[Model]:
    listed = list_models()
    found = [model for model in listed if name in (model.name, model.hub_id, *_pulls(model))]
    if not found and name.count("/") == 1 and cached_folder(name).is_dir():
        return [Model(kind="", name=name, hub_id=name)]
    return found


def _pulls(model: Model) -> Iterable[str]:
    """What fetches it: for a detector, any condition that reads it."""
    return (model.pull, *(model.conditions if model.kind == "detector" else ()))


def _files(model: Model) -> Iterator[Path]:
    """What of the caches holds this model alone."""
    if not model.hub_id:
        return
    folder = cached_folder(model.hub_id)
    if not model.file:
        if folder.is_dir():
            yield folder
            yield from _copies(folder.glob("snapshots/*"))
        return
    links = [path for path in folder.glob(f"snapshots/*/{model.file}") if path.is_file()]
    for link in links:
        yield from dict.fromkeys((link, link.resolve()))
    yield from _copies(links)


def _copies(found: Iterable[Path]) -> Iterator[Path]:
    return (copy for path in found if (copy := converted_copy(path)) and copy.exists())


def _remove(path: Path) -> None:
    with writing(path, hint="check the permissions of the cache"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _refusal(name: str, models: list[Model]) -> CnctlError:
    for model in models:
        if model.path and not model.hub_id:
            return CnctlError(f"{name} comes with cnctl", hint="pip uninstall cnctl removes it")
        if model.path:
            return CnctlError(
                f"{name} is at {model.path}, which is not in the hub's cache",
                hint="remove it yourself",
            )
    hint = "cnctl models --installed lists what is"
    return MissingError(f"{name!r} is not installed", hint=hint)
