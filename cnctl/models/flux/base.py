"""Load a base of FLUX.1 from a diffusers folder or one file."""

from __future__ import annotations

from collections.abc import Container
from types import MappingProxyType

import torch

from cnctl.errors import CnctlError
from cnctl.models.base import Base, TextEncoder
from cnctl.models.family import Family
from cnctl.models.flux.files import FILES
from cnctl.models.location import Location
from cnctl.models.process import FlowMatching
from cnctl.models.transformer.base import flow_scheduler, load_transformer_parts
from cnctl.models.transformer.base_file import PART
from cnctl.models.transformer.packing import SIDE

RESOLUTION = 1024
"""Short side that it was trained on; no config says it."""


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
    parts = load_transformer_parts(
        location,
        FILES,
        text_encoders=2,
        device=device,
        dtype=dtype,
        low_memory=low_memory,
        weights=weights,
        outlined=outlined,
    )
    if "text_encoder_2" not in parts:
        raise CnctlError(f"{location.name} has no T5 text encoder", hint="give a whole base")
    scheduler = flow_scheduler(parts["scheduler"], location.name, dynamic=True)
    return Base(
        name=location.name,
        family=family,
        vae=parts["vae"],
        text_encoders=tuple(
            TextEncoder(parts[f"text_encoder{end}"], parts[f"tokenizer{end}"]) for end in ("", "_2")
        ),
        denoiser=parts[PART],
        process=FlowMatching(scheduler, even=True),
        device=device,
        dtype=dtype,
        path=location.path,
        trained_resolution=RESOLUTION,
        patch_size=SIDE,
        low_memory=low_memory,
        assumed=FILES.describe(location),
        defaults=MappingProxyType({**family.defaults, **FILES.read_defaults(location)}),
    )
