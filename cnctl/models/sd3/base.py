"""Load a base of SD3 from a diffusers folder."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

from cnctl.errors import CnctlError
from cnctl.models.base import Base, TextEncoder, autoencoder_dtype, place_parts
from cnctl.models.diffusers_folder import load_parts
from cnctl.models.family import Family
from cnctl.models.latents import autoencoder_factor
from cnctl.models.location import Location, read_defaults
from cnctl.models.process import FlowMatching

PART = "transformer"


def load_base(
    location: Location,
    family: Family,
    *,
    device: torch.device,
    dtype: torch.dtype,
    low_memory: bool = False,
    weights: bool = True,
) -> Base:
    """The base at this place, locked; see `cnctl.models.families.load_base`."""
    dtypes = {"vae": autoencoder_dtype(dtype), PART: dtype}
    dtypes |= {f"text_encoder{end}": dtype for end in ("", "_2", "_3")}
    denoiser = (PART, SD3Transformer2DModel)
    parts = load_parts(
        location.path, denoiser=denoiser, most_text_encoders=3, dtypes=dtypes, weights=weights
    )
    place_parts(parts, device, low_memory=low_memory, weights=weights)
    config = parts[PART].config
    factor = autoencoder_factor(parts["vae"])
    return Base(
        name=location.name,
        family=family,
        vae=parts["vae"],
        text_encoders=_text_encoders(parts, location.name),
        denoiser=parts[PART],
        process=FlowMatching(_scheduler(parts["scheduler"], location.name)),
        device=device,
        dtype=dtype,
        path=location.path,
        trained_resolution=config.sample_size * factor,
        patch_size=config.patch_size,
        largest_side=config.pos_embed_max_size * config.patch_size * factor,
        low_memory=low_memory,
        defaults=MappingProxyType({**family.defaults, **read_defaults(location.path)}),
    )


def _text_encoders(parts: Mapping[str, Any], name: str) -> tuple[TextEncoder, ...]:
    """Both CLIPs, and T5 where the base has it."""
    ends = [end for end in ("", "_2", "_3") if f"text_encoder{end}" in parts]
    if "_2" not in ends:
        raise CnctlError(
            f"{name} has one CLIP text encoder, and SD3 reads two", hint="give a whole base"
        )
    return tuple(TextEncoder(parts[f"text_encoder{end}"], parts[f"tokenizer{end}"]) for end in ends)


def _scheduler(own: Any, name: str) -> FlowMatchEulerDiscreteScheduler:
    """The base's noise schedule, with its shift."""
    known = isinstance(own, FlowMatchEulerDiscreteScheduler)
    if not known or own.config.use_dynamic_shifting or own.config.invert_sigmas:
        raise CnctlError(
            f"{name} has another noise schedule than SD3, which shifts all sizes alike",
            hint="give a base with a FlowMatchEulerDiscreteScheduler without dynamic shifting",
        )
    return FlowMatchEulerDiscreteScheduler.from_config(own.config)
