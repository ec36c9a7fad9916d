"""`cnctl models`: bases and ControlNets, at hand or to be fetched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from cnctl.core.base import HUB_NAMES, SHORT_NAMES, locate_base, read_defaults, read_family
from cnctl.errors import CnctlError, MissingError
from cnctl.jobs.weights import cached_folder
from cnctl.registry import list_conditions

WANTED_FILES = ["*.json", "*.txt", "*.safetensors", "tokenizer/*"]
UNWANTED_FILES = ["*.fp16.safetensors", "*non_ema*", "v1-5-*", "v2-1_*", "safety_checker/*"]
"""Second copies of the same weights, and what cnctl does not run."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A base, or a ControlNet for a condition."""

    kind: str
    """ "base" or "control"."""
    name: str
    family: str
    condition: str = ""
    licence: str = ""
    path: Path | None = None
    """Where it lies; None where it is not at hand."""
    about: str = ""
    """What it is good for and what it cannot do, or how to get it."""


def list_models() -> list[Model]:
    """What this machine has, and what the installed conditions recommend besides."""
    return [*_bases(), *_controls()]


def pull_model(name: str) -> Path:
    """Fetch a base by short name, or any diffusers model by hub id, into the hub's cache.

    Only configs, tokenizers and safetensors come. Returns the folder of the snapshot.
    """
    if name == "tiny":
        return locate_base("tiny").path
    hub_id = HUB_NAMES[name][0] if name in HUB_NAMES else name
    if hub_id.count("/") != 1:
        known = ", ".join(HUB_NAMES)
        raise CnctlError(f"no model {name!r} to fetch", hint=f"give a hub id, or one of {known}")
    try:
        return Path(
            snapshot_download(hub_id, allow_patterns=WANTED_FILES, ignore_patterns=UNWANTED_FILES)
        )
    except (HFValidationError, RepositoryNotFoundError) as error:
        if isinstance(error, GatedRepoError):
            hint = f"accept its licence on https://huggingface.co/{hub_id}, then: hf auth login"
            raise MissingError(f"{hub_id} is gated", hint=hint) from error
        hint = "check the id; a private one needs: hf auth login"
        raise MissingError(f"the hub has no model {hub_id!r}", hint=hint) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        hint = "check the network, HF_HUB_OFFLINE and HF_ENDPOINT, then try again; it goes on"
        raise MissingError(f"{hub_id} could not be fetched", hint=hint) from error


def _bases() -> Iterator[Model]:
    for name in SHORT_NAMES:
        try:
            location = locate_base(name)
        except MissingError as error:
            family = {"sd15": "SD 1.x", "sd21": "SD 2.x"}.get(name, "")
            yield Model(kind="base", name=name, family=family, about=error.hint)
            continue
        defaults = read_defaults(location.path)
        about = " ".join(defaults[key] for key in ("summary", "limits") if key in defaults)
        family = read_family(location.path).name
        yield Model(kind="base", name=name, family=family, path=location.path, about=about)


def _controls() -> Iterator[Model]:
    embedded = locate_base("tiny").path / "controls"
    for condition in (entry.condition for entry in list_conditions() if entry.condition):
        for known in condition.weights:
            own = embedded / condition.name
            brought = known.source == f"tiny/{condition.name}" and own.is_dir()
            path = own if brought else cached_folder(known.source)
            yield Model(
                kind="control",
                name=known.source,
                family=known.family,
                condition=condition.name,
                licence=known.licence,
                path=path,
                about="" if path else f"cnctl models pull {known.source}",
            )
