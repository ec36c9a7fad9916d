"""Load a base of Z-Image from a diffusers folder or one file."""

from __future__ import annotations

from collections.abc import Container
from types import MappingProxyType

import torch

from cnctl.errors import CnctlError
from cnctl.models.base import Base, TextEncoder
from cnctl.models.family import Family
from cnctl.models.latents import autoencoder_factor
from cnctl.models.location import Location
from cnctl.models.process import FlowMatching
from cnctl.models.transformer.base import flow_scheduler, load_transformer_parts
from cnctl.models.transformer.base_file import PART
from cnctl.models.zimage.files import FILES
from cnctl.models.zimage.shape import PATCH_SIZE

TRAINED_RESOLUTION = 1024


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
    if not parts["tokenizer"].chat_template:
        raise CnctlError(
            f"the tokenizer of {location.name} has no chat template",
            hint="fetch the whole base again",
        )
    config, factor = parts[PART].config, autoencoder_factor(parts["vae"])
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
        trained_resolution=TRAINED_RESOLUTION,
        patch_size=PATCH_SIZE,
        largest_side=min(config.axes_lens[1:]) * PATCH_SIZE * factor,
        low_memory=low_memory,
        assumed=FILES.describe(location),
        defaults=MappingProxyType({**family.defaults, **FILES.read_defaults(location)}),
    )
