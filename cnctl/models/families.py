"""All families, and bases of them: the only file that names the families' folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.device import pick_device, pick_dtype
from cnctl.models.family import Family, Recognise
from cnctl.models.flux.family import recognise as recognise_flux
from cnctl.models.identify import check_role
from cnctl.models.locate import locate_base
from cnctl.models.location import Location, read_defaults, shared_folders
from cnctl.models.qwen.family import recognise as recognise_qwen
from cnctl.models.sd3.family import recognise as recognise_sd3
from cnctl.models.signatures import BASE
from cnctl.models.unet.family import recognise as recognise_unet
from cnctl.models.zimage.family import recognise as recognise_zimage

RECOGNISERS: tuple[Recognise, ...] = (
    recognise_sd3,
    recognise_flux,
    recognise_zimage,
    recognise_qwen,
    recognise_unet,
)
"""One for each folder; the first that knows a base has it."""
OTHERS = ("vae", "text_encoder", "text_encoder_2", "text_encoder_3")
"""The networks of a base beside its denoiser, by diffusers' names."""


def load_base(
    source: str | Path,
    *,
    device: str | torch.device | None = "cpu",
    dtype: str | torch.dtype | None = None,
    low_memory: bool = False,
    weights: bool = True,
    denoiser: bool = True,
) -> Base:
    """A base from a short name, a diffusers folder, a cached hub id or one file of weights.

    device: None picks the fastest; dtype: None picks what suits the device. low_memory: keep the
    networks on the host, and decode images larger than the base was trained on in tiles. weights:
    without them the networks are on the meta device: they have sizes and compute nothing. denoiser:
    False leaves that one there, see `read_denoiser`.
    Nothing is downloaded; the family is recognised before any weight is read. Raises MissingError
    when the base is not installed, DeviceError when the device is not there, and CnctlError when
    it is not a base that this program knows.
    """
    location = locate_base(source)
    device = pick_device(device)
    dtype = pick_dtype(device, dtype)
    family = find_family(location)
    return family.load_base(
        location,
        family,
        device=device,
        dtype=dtype,
        low_memory=low_memory,
        weights=weights,
        outlined=() if denoiser else (family.part,),
    )


def read_denoiser(base: Base) -> Base:
    """The base with the weights of its denoiser, which `load_base` has left out.

    What else it holds stays as it is, so that text encoders may be released before.
    """
    read = base.family.load_base(
        Location(base.path, base.name, "loaded before"),
        base.family,
        device=base.device,
        dtype=base.dtype,
        low_memory=base.low_memory,
        outlined=OTHERS,
    )
    return replace(base, denoiser=read.denoiser)


def read_family(source: str | Path) -> Family:
    """The family of a base, from its config or its file's header; no weight is read."""
    return find_family(locate_base(source))


def weight_files(location: Location) -> list[Path]:
    """The files that the weights of the base at this place may be read from."""
    if location.path.is_dir():
        shared = shared_folders(location.path, read_defaults(location.path)).values()
        folders = dict.fromkeys([location.path, *(folder.resolve() for folder in shared)])
        return [*dict.fromkeys(file for each in folders for file in each.rglob("*.safetensors"))]
    completed_by = find_family(location).completed_by
    return [location.path, *(completed_by.rglob("*.safetensors") if completed_by else ())]


def find_family(location: Location) -> Family:
    """The family of the base at this place; CnctlError where it is not a base of a known family."""
    check_role(location.path, BASE)
    for recognise in RECOGNISERS:
        if family := recognise(location):
            return family
    raise CnctlError(
        f"{location.name} is not a base of a known family",
        hint="cnctl models lists the known bases",
    )
