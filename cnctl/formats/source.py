"""A ControlNet on disk, understood before any tensor is read."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError, MissingError
from cnctl.formats import config as configs
from cnctl.formats import keymap
from cnctl.formats.architecture import Architecture, read_architecture
from cnctl.formats.detect import Form, detect, select
from cnctl.formats.header import TensorSpec, read_header
from cnctl.formats.torchfile import LEGACY_MAGIC, ZIP_MAGIC, list_torch_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
WEIGHTS_NAMES = (
    WEIGHTS,
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)
CONFIG = "config.json"
DESCRIPTION = "cnctl.json"
METADATA_KEY = "cnctl"

FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is known without reading a tensor. Names carry no prefix."""

    path: Path
    """The file with the tensors."""
    container: str
    """"safetensors", "torch", or "torch, under state_dict"."""
    form: Form
    tensors: dict[str, TensorSpec]
    architecture: Architecture
    config: dict[str, Any]
    """As diffusers would write it, or as the file carries it."""
    description: dict[str, Any]
    """What the trainer or converter wrote down; {} for a stranger's file."""
    notes: tuple[str, ...] = ()
    """What was left out, or is odd, one sentence each."""

    @property
    def full_names(self) -> dict[str, str]:
        """Name without prefix -> name in the file."""
        return {name: self.form.prefix + name for name in self.tensors}

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes in use, as safetensors codes, most frequent first."""
        counts = Counter(spec.dtype for spec in self.tensors.values())
        return tuple(dtype for dtype, _ in counts.most_common())

    @property
    def parameters(self) -> int:
        return sum(prod(spec.shape) for spec in self.tensors.values())


def open_source(
    source: str | Path, *, config: Path | None = None, needs_config: bool = True
) -> Source:
    """Read headers only. Strict: every tensor is known and of the right shape, or CnctlError.

    config: a config.json to take from what no shape tells, such as the number of heads.
    needs_config: False leaves the config empty, and says so in a note, where nothing tells it.
    """
    path, folder = _locate(Path(source))
    try:
        return _open(path, folder, config, needs_config)
    except CnctlError as error:
        if str(path) in str(error) or (config is not None and str(config) in str(error)):
            raise
        raise type(error)(f"{path}: {error}", hint=error.hint) from error
    except OSError as error:
        raise CnctlError(
            f"{path} cannot be read: {error.strerror}", hint="check the path"
        ) from error


def read_description(source: str | Path) -> dict[str, Any]:
    """What is known of a ControlNet, without reading a tensor.

    Always there: config (diffusers' fields), hint_channels, family ("" where neither the shapes
    nor the file tell). The rest is what `save_controlnet` was given: condition, connect, steps ...
    """
    return describe(open_source(source))


def describe(source: Source) -> dict[str, Any]:
    """The description of an opened source; see `read_description`."""
    known = {
        "hint_channels": source.architecture.hint_channels,
        "config": configs.complete_config(source.config, source.architecture),
    }
    family = configs.family_name(source.architecture) or source.description.get("family", "")
    return source.description | {"family": family} | known


def _open(path: Path, folder: Path | None, config_file: Path | None, needs_config: bool) -> Source:
    container, listed, metadata, others = _list(path)
    form = detect(listed)
    tensors = {name: listed[full] for name, full in select(listed, form).items()}
    architecture = _check_tensors(tensors, form)
    written = _read_metadata(metadata)
    notes = _notes(form, others)
    try:
        config = _config(architecture, folder, config_file, written)
    except configs.UnknownHeadsError as error:
        if needs_config:
            raise
        config, notes = {}, [*notes, f"{error}; {error.hint}"]
    return Source(
        path=path,
        container=container,
        form=form,
        tensors=tensors,
        architecture=architecture,
        config=config,
        description=_description(folder, written),
        notes=tuple(notes),
    )


def _locate(source: Path) -> tuple[Path, Path | None]:
    """The file of tensors, and the folder when the source is one."""
    if source.is_file():
        return source, None
    if not source.is_dir():
        raise MissingError(f"{source} does not exist", hint="give a file, or a diffusers folder")
    if (source / "controlnet" / CONFIG).is_file():  # a run of `cnctl train`, or a whole pipeline
        source = source / "controlnet"
    for name in WEIGHTS_NAMES:
        if (source / name).is_file():
            if not (source / CONFIG).is_file():
                raise CnctlError(
                    f"{source} has no {CONFIG}", hint=f"or give {source / name} itself"
                )
            return source / name, source
    raise CnctlError(f"{source} holds no {WEIGHTS}", hint="give the file or folder of a ControlNet")


def _list(path: Path) -> tuple[str, dict[str, TensorSpec], dict[str, str], tuple[str, ...]]:
    """Container, tensors, metadata and other keys of a file, told by its first bytes."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith((ZIP_MAGIC, LEGACY_MAGIC)):
        listing = list_torch_file(path)
        container = "torch, under state_dict" if listing.wrapped else "torch"
        return container, listing.tensors, {}, listing.others
    if start[8:9] == b"{":
        header = read_header(path)
        return "safetensors", header.tensors, header.metadata, ()
    raise CnctlError(
        f"{path} is {_what_else(start)}", hint="give a .safetensors, .pth or .ckpt file"
    )


def _what_else(start: bytes) -> str:
    text = start.lstrip().lower()
    if not start:
        return "empty"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself (run git lfs pull)"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights (the download needs a login or another address)"
    if start[257:262] == b"ustar":
        return "a tar file of a very old torch, which cannot be read safely"
    if start.startswith(b"\x80"):
        return "a bare pickle, which could run any code; it was not opened"
    return "no file of weights that cnctl knows"


def _check_tensors(tensors: dict[str, TensorSpec], form: Form) -> Architecture:
    shapes = {name: spec.shape for name, spec in tensors.items()}
    architecture = read_architecture(shapes)
    table = keymap.pairs(architecture)
    if form.name == "diffusers":
        expected = {pair.diffusers: pair.shape for pair in table}
    else:
        expected = {pair.original: pair.shape for pair in table}
    keymap.check(shapes, expected)
    for name, spec in tensors.items():
        if spec.dtype not in FLOATS:
            raise CnctlError(
                f"{name} has dtype {spec.dtype}, not a floating one",
                hint="quantised files are not read; get the original weights",
            )
    return architecture


def _config(
    architecture: Architecture, folder: Path | None, given: Path | None, written: dict[str, Any]
) -> dict[str, Any]:
    """Which config holds: the user's, the folder's, the file's own metadata, or the shapes'."""
    if given is not None:
        config = configs.heads_from(configs.read_config(given), architecture)
    elif folder is not None:
        config = configs.read_config(folder / CONFIG)
    elif isinstance(written.get("config"), dict):
        config = written["config"]
    else:
        config = configs.config_from_shapes(architecture)
    configs.check_config(config, architecture)
    return config


def _read_metadata(metadata: dict[str, str]) -> dict[str, Any]:
    """What `convert` wrote into a file of its own; {} for anything else."""
    try:
        written = json.loads(metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return written if isinstance(written, dict) else {}


def _description(folder: Path | None, written: dict[str, Any]) -> dict[str, Any]:
    if folder is not None:
        path = folder / DESCRIPTION
        return configs.read_config(path) if path.is_file() else {}
    described = written.get("description", {})
    return described if isinstance(described, dict) else {}


def _notes(form: Form, others: tuple[str, ...]) -> list[str]:
    notes = [
        f"left out {what} ({count} tensor{'s' * (count > 1)})"
        for what, count in form.dropped.items()
    ]
    if others:
        notes.append(f"left out what holds no weights: {keymap.first_few(list(others))}")
    if form.label == "original, full checkpoint":
        notes.append(
            "this checkpoint brings its own U-Net; with another base its images may differ"
        )
    return notes
