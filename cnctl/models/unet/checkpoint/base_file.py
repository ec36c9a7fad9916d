"""The U-Net of a base on disk: what a ControlNet copies, and what a partial file adds to.

Only names and shapes are read when it is opened. Bases are diffusers folders and files with the
original's keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError, MissingError
from cnctl.models.unet.checkpoint import keymap
from cnctl.models.unet.checkpoint.architecture import Architecture, read_encoder
from cnctl.models.weights_place import read_config
from cnctl.tensorfiles.expected import check, check_dtypes, first_few
from cnctl.tensorfiles.header import TensorSpec
from cnctl.tensorfiles.listing import CONFIG, find_weights, list_tensors, no_weights
from cnctl.tensorfiles.paths import check_kind

PREFIX = "model.diffusion_model."


@dataclass(frozen=True, kw_only=True)
class Unet:
    """Everything but the tensors themselves."""

    path: Path
    """The file with the tensors."""
    container: str
    """As in `Source`."""
    is_diffusers: bool
    tensors: dict[str, TensorSpec]
    """By name in the file."""
    architecture: Architecture
    """Of the encoder; no hint channels."""
    config: dict[str, Any]
    """Its config.json; {} for a single file."""

    def name(self, pair: keymap.Pair) -> str:
        """What the file calls a tensor of the encoder."""
        return self.full_name(pair.diffusers, pair.original)

    def full_name(self, diffusers: str, original: str) -> str:
        """What the file calls a tensor that has these two names."""
        return diffusers if self.is_diffusers else PREFIX + original


def open_unet(base: Path) -> Unet:
    """Read the headers of a base; CnctlError where it holds no U-Net of a known form."""
    path, config = _locate(base)
    listing = list_tensors(path)
    is_diffusers = not any(name.startswith(PREFIX) for name in listing.tensors)
    prefix = "" if is_diffusers else PREFIX
    shapes = {
        name.removeprefix(prefix): spec.shape
        for name, spec in listing.tensors.items()
        if name.startswith(prefix)
    }
    if not any(name.startswith(("up_blocks.", "output_blocks.")) for name in shapes):
        raise CnctlError(
            f"{path} holds no U-Net; its keys begin {first_few(sorted(listing.tensors))}",
            hint="give a base: a diffusers folder, or a checkpoint of Stable Diffusion",
        )
    try:
        architecture = read_encoder(shapes)
    except CnctlError as error:
        raise CnctlError(f"{path}: {error}", hint="this is not a whole base") from error
    unet = Unet(
        path=path,
        container=listing.container,
        is_diffusers=is_diffusers,
        tensors=listing.tensors,
        architecture=architecture,
        config=read_config(config) if config else {},
    )
    _check(unet)
    return unet


def _locate(base: Path) -> tuple[Path, Path | None]:
    """The file of tensors, and the config.json beside it."""
    if base.is_file():
        return base, None
    for folder in (base / "unet", base):
        if (found := find_weights(folder)) and (folder / CONFIG).is_file():
            return found, folder / CONFIG
    if not base.is_dir():
        check_kind(base)
        raise MissingError(f"{base} does not exist", hint="give the file or folder of a base")
    if (base / "unet").is_dir():
        raise no_weights(base / "unet", "a whole base")
    raise CnctlError(f"{base} holds no U-Net", hint="give the file or folder of a whole base")


def _check(unet: Unet) -> None:
    """Every tensor of the encoder is there and of its shape; the decoder is not looked at."""
    expected = {unet.name(pair): pair.shape for pair in keymap.pairs(unet.architecture)}
    found = {name: spec for name, spec in unet.tensors.items() if name in expected}
    try:
        check_dtypes(found)
        check({name: spec.shape for name, spec in found.items()}, expected)
    except CnctlError as error:
        raise CnctlError(f"{unet.path}: {error}", hint="this is not a whole base") from error
