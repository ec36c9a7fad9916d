"""Load a base of Qwen-Image from a diffusers folder or one file."""

from __future__ import annotations

from collections.abc import Container
from types import MappingProxyType

import torch

from cnctl.models.base import Base, TextEncoder
from cnctl.models.family import Family
from cnctl.models.location import Location
from cnctl.models.process import FlowMatching
from cnctl.models.qwen.files import FILES
from cnctl.models.transformer.base import flow_scheduler, load_transformer_parts
from cnctl.models.transformer.base_file import PART
from cnctl.models.transformer.packing import SIDE

RESOLUTION = 1328
"""Side of the squares that it makes best (its model card); no config says it."""


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
        text_encoders=1,
        device=device,
        dtype=dtype,
        low_memory=low_memory,
        weights=weights,
        outlined=outlined,
    )
    scheduler = flow_scheduler(parts["scheduler"], location.name, dynamic=True)
    return Base(
        name=location.name,
        family=family,
        vae=parts["vae"],
        text_encoders=(TextEncoder(parts["text_encoder"], parts["tokenizer"]),),
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
