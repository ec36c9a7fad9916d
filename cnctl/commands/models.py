"""`cnctl models`: bases, ControlNets and detectors' weights, installed or to be fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

from cnctl.commands.shared.cached import find_known
from cnctl.commands.shared.captioner import BLIP
from cnctl.commands.shared.known_controls import find_control, known_weights, near_names
from cnctl.commands.shared.perceptual import CLIP
from cnctl.errors import CnctlError, MissingError
from cnctl.hints.files import (
    check_sha256,
    describe,
    find_file,
    safe_file,
    title,
    weights_in,
)
from cnctl.models.families import read_family
from cnctl.models.locate import HUB_NAMES, SHORT_NAMES, locate_base
from cnctl.models.location import read_defaults
from cnctl.models.published import BASES, short_name
from cnctl.plugin import WeightFile
from cnctl.registry import condition_names, get_condition, list_conditions
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
TINY_LICENCE = "Apache-2.0"
PICKLED = "diffusion_pytorch_model.bin"
"""What some ControlNets have in place of safetensors."""
DETECTOR_FILES = ["*.json", "*.txt", "*.safetensors"]
OTHERS = {"blip": ("captioner", BLIP), "clip": ("metric", CLIP)}
"""What no condition names, by its short name: what it serves as, and where it is."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A base, a ControlNet or a detector of a condition, a captioner, or what a metric reads."""

    kind: str
    """ "base", "control", "detector", "captioner" or "metric"."""
    name: str
    family: str
    condition: str = ""
    licence: str = ""
    path: Path | None = None
    """Where it is; None where it is not installed."""
    about: str = ""
    """What it is good for and what it cannot do, or how to get it."""


def list_models() -> list[Model]:
    """What this machine has, and what the installed conditions recommend besides."""
    return [*_bases(), *_controls(), *_detectors(), *_others()]


def pull(name: str) -> list[Path]:
    """Fetch a base, a hub id, blip, clip, or all that a condition's detector reads; to where."""
    if name in OTHERS:
        return [pull_detector(OTHERS[name][1])]
    if name in HUB_NAMES or name == "tiny" or "/" in name or name not in condition_names():
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
    if name == "tiny":
        return locate_base("tiny").path
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
        hint = "check the network, HF_HUB_OFFLINE and HF_ENDPOINT, then try again; it goes on"
        raise MissingError(f"{hub_id} could not be fetched", hint=hint) from error


def _bases() -> Iterator[Model]:
    for name in SHORT_NAMES:
        known = BASES.get(name)
        licence = known.licence if known else TINY_LICENCE
        try:
            location = locate_base(name)
        except MissingError as error:
            family = known.family if known else ""
            yield Model(kind="base", name=name, family=family, licence=licence, about=error.hint)
            continue
        defaults = read_defaults(location.path)
        about = " ".join(defaults[key] for key in ("summary", "limits") if key in defaults)
        family = read_family(location.path).name
        yield Model(
            kind="base",
            name=name,
            family=family,
            licence=licence,
            path=location.path,
            about=about,
        )


def _controls() -> Iterator[Model]:
    embedded = locate_base("tiny").path
    for condition in (entry.condition for entry in list_conditions() if entry.condition):
        for known in known_weights(condition):
            path = find_known(known, embedded)
            yield Model(
                kind="control",
                name=short_name(known.source) if known.family != "tiny" else known.source,
                family=known.family,
                condition=condition.name,
                licence=known.licence,
                path=path,
                about="" if path else f"cnctl models pull {short_name(known.source)}",
            )


def _detectors() -> Iterator[Model]:
    for condition in (entry.condition for entry in list_conditions() if entry.condition):
        for file in condition.files.values():
            yield _in_file("detector", file, name=condition.name, condition=condition.name)


def _others() -> Iterator[Model]:
    return (_in_file(kind, file, name=name) for name, (kind, file) in OTHERS.items())


def _in_file(kind: str, file: WeightFile, *, name: str, condition: str = "") -> Model:
    """name: what `pull` calls it."""
    try:
        path = find_file(file)
    except CnctlError as error:
        path, about = None, f"{error}; {error.hint}"
    else:
        about = describe(file) if path else f"cnctl models pull {name}"
    return Model(
        kind=kind,
        name=title(file),
        family="",
        condition=condition,
        licence=file.licence,
        path=path,
        about=about,
    )
