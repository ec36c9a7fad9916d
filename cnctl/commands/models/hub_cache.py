"""The hub's cache on disk: models in it that no condition names, and where a hub id is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from cnctl.commands.models.disk import size_on_disk
from cnctl.commands.models.model import Model
from cnctl.errors import CnctlError
from cnctl.models.identify import identify, serves
from cnctl.models.signatures import BASE, CONTROLNET

KINDS = {BASE: "base", CONTROLNET: "control"}


def cached_models(*, known: Collection[str]) -> Iterator[Model]:
    """Bases and ControlNets of other hub ids than these, from their headers."""
    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        hub_id = "/".join(folder.name.split("--")[1:])
        snapshots = sorted(folder.glob("snapshots/*"), key=lambda path: path.stat().st_mtime)
        if hub_id in known or not snapshots:
            continue
        with suppress(CnctlError):  # it is damaged, or something else
            if model := _recognise(hub_id, snapshots[-1]):
                yield model


def cached_folder(hub_id: str) -> Path:
    """Where the cache keeps all that it has of a hub id."""
    name = repo_folder_name(repo_id=hub_id, repo_type="model")
    return Path(constants.HF_HUB_CACHE) / name


def _recognise(hub_id: str, snapshot: Path) -> Model | None:
    row = identify(snapshot, BASE)
    if row is None or row.role not in KINDS or not serves(row, row.role):
        return None
    return Model(
        kind=KINDS[row.role],
        name=hub_id,
        hub_id=hub_id,
        path=snapshot,
        size=size_on_disk([snapshot]),
        pull=hub_id,
        about=row.what,
    )
