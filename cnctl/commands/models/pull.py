"""Fetch a model into the hub's cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from cnctl.commands.shared.cached import embedded_control
from cnctl.commands.shared.known_controls import find_control, near_names
from cnctl.errors import CnctlError, MissingError
from cnctl.hints.files import (
    check_sha256,
    find_file,
    safe_file,
    title,
    weights_in,
)
from cnctl.hints.hub_models import HUB_MODELS
from cnctl.models.locate import EMBEDDED, HUB_NAMES, locate_base
from cnctl.plugin import WeightFile
from cnctl.registry import condition_names, get_condition
from cnctl.tensorfiles.digest import known_sha256, sha256

WANTED_FILES = ["*.json", "*.txt", "*.safetensors", "tokenizer/*"]
UNWANTED_FILES = [
    "*.fp16.safetensors",
    "*non_ema*",
    "safety_checker/*",
    "*.fp16-*",
    *("v1-5-*", "v2-1_*", "sd_xl_*", "vae_1_0/*", "sd3_medium*", "sd3.5_*", "text_encoders/*"),
    *("flux1-*", "ae.safetensors"),
]
"""Second copies of the same weights, and what cnctl does not run."""
PICKLED = "diffusion_pytorch_model.bin"
"""What some ControlNets have in place of safetensors."""
DETECTOR_FILES = ["*.json", "*.txt", "*.safetensors"]


def pull(name: str) -> list[Path]:
    """Fetch a base, a hub id, blip, clip, or all that a condition's detector reads; to where."""
    if name in HUB_MODELS:
        return [pull_detector(HUB_MODELS[name][1])]
    if name in HUB_NAMES or name in EMBEDDED or "/" in name or name not in condition_names():
        return [pull_model(name)]
    condition = get_condition(name)
    if not condition.files:
        raise CnctlError(
            f"the detector of {name} needs no weights",
            hint=f"its ControlNets: cnctl conditions {name}",
        )
    return [pull_detector(file) for file in condition.files.values()]


def pull_detector(file: WeightFile) -> Path:
    """Fetch one file or folder, hold it to its published hash, and convert it if need be."""
    found = find_file(file)
    if found is None:
        with _told_what_failed(file.repo):
            found = _fetch(file)
        _check_fetched(file, found)
    return safe_file(found)


def pull_model(name: str) -> Path:
    """Fetch a base or a ControlNet by short name, or a model by hub id, into the hub's cache.

    Only configs, tokenizers and safetensors come. Returns the folder of the snapshot, or
    the file of a repository that has no config.
    """
    if name in EMBEDDED:
        return locate_base(name).path
    if own := embedded_control(name):
        return own
    known = find_control(name)
    hub_id = known.source if known else HUB_NAMES.get(name, (name,))[0]
    if hub_id.count("/") != 1:
        names = ", ".join([*HUB_NAMES, *near_names(name)])
        raise CnctlError(f"no model {name!r} to fetch", hint=f"give a hub id, or one of {names}")
    with _told_what_failed(hub_id):
        if known and known.file:
            return Path(hf_hub_download(hub_id, known.file))
        folder = snapshot_download(
            hub_id, allow_patterns=WANTED_FILES, ignore_patterns=UNWANTED_FILES
        )
        if known and not any(Path(folder).glob("*.safetensors")):
            hf_hub_download(hub_id, PICKLED)  # read as any stranger's file is
    return Path(folder)


def _check_fetched(file: WeightFile, found: Path) -> None:
    """Read what has come, of which the hub's client has seen no more than the size."""
    weights = weights_in(found)
    if sha256(weights) != known_sha256(weights):
        weights.resolve().unlink()
        weights.unlink()
        raise MissingError(f"{title(file)} was damaged in transfer", hint="pull it again")
    check_sha256(file, found)


def _fetch(file: WeightFile) -> Path:
    revision = file.revision or None
    if file.filename:
        return Path(hf_hub_download(file.repo, file.filename, revision=revision))
    folder = Path(snapshot_download(file.repo, revision=revision, allow_patterns=DETECTOR_FILES))
    if not any(folder.glob("*.safetensors")):
        hf_hub_download(file.repo, "pytorch_model.bin", revision=revision)
    return folder


@contextmanager
def _told_what_failed(hub_id: str) -> Iterator[None]:
    """Say in a sentence why the hub gave nothing."""
    try:
        yield
    except (HFValidationError, RepositoryNotFoundError) as error:
        if isinstance(error, GatedRepoError):
            hint = f"accept its licence on https://huggingface.co/{hub_id}, then: hf auth login"
            raise MissingError(f"{hub_id} is gated", hint=hint) from error
        hint = "check the id; a private one needs: hf auth login"
        raise MissingError(f"the hub has no model {hub_id!r}", hint=hint) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        hint = (
            "check the network, HF_HUB_OFFLINE and HF_ENDPOINT, then try again; "
            "the download resumes"
        )
        raise MissingError(f"{hub_id} could not be fetched", hint=hint) from error
