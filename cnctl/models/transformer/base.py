"""Load a base with a transformer from a diffusers folder, or from one file that it completes."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from cnctl.errors import CnctlError
from cnctl.models.base import Base, TextEncoder, autoencoder_dtype, place_parts
from cnctl.models.diffusers_folder import load_parts
from cnctl.models.family import Family
from cnctl.models.location import Location
from cnctl.models.reading import report_reading
from cnctl.models.transformer.base_file import PART, fill_parts
from cnctl.models.transformer.files import BaseFiles
from cnctl.models.weights_source import opening

OwnFields = Callable[[dict[str, Any], str], dict[str, Any]]
"""own_fields(parts, name): what a family says of its bases: text_encoders, process,
trained_resolution, patch_size, largest_side. CnctlError for a base that is not whole."""


def base_loader(files: BaseFiles, own_fields: OwnFields, *, text_encoders: int) -> Any:
    """A family's `load_base`. text_encoders: the most that its bases have."""

    def load_base(
        location: Location,
        family: Family,
        *,
        device: torch.device,
        dtype: torch.dtype,
        low_memory: bool = False,
        weights: bool = True,
        outlined: Container[str] = (),
    ) -> Base:
        """The base at this place, locked; see `cnctl.models.families.load_base`."""
        parts = _load_parts(
            location,
            files,
            text_encoders=text_encoders,
            device=device,
            dtype=dtype,
            low_memory=low_memory,
            weights=weights,
            outlined=outlined,
        )
        return Base(
            name=location.name,
            family=family,
            vae=parts["vae"],
            denoiser=parts[PART],
            device=device,
            dtype=dtype,
            path=location.path,
            low_memory=low_memory,
            assumed=files.describe(location),
            defaults=MappingProxyType({**family.defaults, **files.read_defaults(location)}),
            **own_fields(parts, location.name),
        )

    return load_base


def read_text_encoders(parts: Mapping[str, Any], *ends: str) -> tuple[TextEncoder, ...]:
    """Those of the names "text_encoder" with these ends, with their tokenizers."""
    return tuple(TextEncoder(parts[f"text_encoder{end}"], parts[f"tokenizer{end}"]) for end in ends)


def _load_parts(
    location: Location,
    files: BaseFiles,
    *,
    text_encoders: int,
    device: torch.device,
    dtype: torch.dtype,
    low_memory: bool,
    weights: bool,
    outlined: Container[str],
) -> dict[str, Any]:
    """Networks, tokenizers and scheduler by their names in model_index.json, locked and placed.

    outlined: networks that come without weights.
    """
    folder = files.find_folder(location)
    assert folder is not None  # it was recognised
    ends = ["", *(f"_{number}" for number in range(2, text_encoders + 1))]
    dtypes = {"vae": autoencoder_dtype(dtype), PART: dtype}
    dtypes |= {f"text_encoder{end}": dtype for end in ends}
    file = files.open(location.path, folder) if location.path.is_file() else None
    parts = load_parts(
        folder,
        denoiser=(PART, files.kind),
        most_text_encoders=text_encoders,
        dtypes=dtypes,
        weights=weights,
        outlined={part for part in dtypes if part in outlined or (file and part in file.parts)},
    )
    if file and weights:
        report_reading(location.path.name, 0, location.path.stat().st_size)
        with opening(location.path):
            fill_parts(file, parts, dtypes=dtypes, outlined=outlined)
    place_parts(parts, device, low_memory=low_memory, weights=weights)
    return parts


def flow_scheduler(own: Any, name: str, *, dynamic: bool) -> FlowMatchEulerDiscreteScheduler:
    """The noise schedule of the base of this name, with its shift.

    dynamic: whether the family may shift by the size of an image.
    """
    known = isinstance(own, FlowMatchEulerDiscreteScheduler) and not own.config.invert_sigmas
    if not known or (own.config.use_dynamic_shifting and not dynamic):
        without = "" if dynamic else " without dynamic shifting"
        raise CnctlError(
            f"{name} has a noise schedule that its family does not use",
            hint=f"give a base with a FlowMatchEulerDiscreteScheduler{without}",
        )
    return FlowMatchEulerDiscreteScheduler.from_config(own.config)
