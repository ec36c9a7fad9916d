"""Load a base of SD3 from a diffusers folder or one file."""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.base import Base, TextEncoder
from cnctl.models.family import Family
from cnctl.models.latents import autoencoder_factor
from cnctl.models.location import Location
from cnctl.models.process import FlowMatching
from cnctl.models.sd3.files import FILES
from cnctl.models.transformer.base import flow_scheduler, load_transformer_parts
from cnctl.models.transformer.base_file import PART


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
        text_encoders=3,
        device=device,
        dtype=dtype,
        low_memory=low_memory,
        weights=weights,
        outlined=outlined,
    )
    config = parts[PART].config
    factor = autoencoder_factor(parts["vae"])
    return Base(
        name=location.name,
        family=family,
        vae=parts["vae"],
        text_encoders=_text_encoders(parts, location.name),
        denoiser=parts[PART],
        process=FlowMatching(flow_scheduler(parts["scheduler"], location.name, dynamic=False)),
        device=device,
        dtype=dtype,
        path=location.path,
        trained_resolution=config.sample_size * factor,
        patch_size=config.patch_size,
        largest_side=config.pos_embed_max_size * config.patch_size * factor,
        low_memory=low_memory,
        assumed=FILES.describe(location),
        defaults=MappingProxyType({**family.defaults, **FILES.read_defaults(location)}),
    )


def _text_encoders(parts: Mapping[str, Any], name: str) -> tuple[TextEncoder, ...]:
    """Both CLIPs, and T5 where the base has it."""
    ends = [end for end in ("", "_2", "_3") if f"text_encoder{end}" in parts]
    if "_2" not in ends:
        raise CnctlError(
            f"{name} has one CLIP text encoder, and SD3 reads two", hint="give a whole base"
        )
    return tuple(TextEncoder(parts[f"text_encoder{end}"], parts[f"tokenizer{end}"]) for end in ends)
