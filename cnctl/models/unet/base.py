"""Load a base with a U-Net, from a diffusers folder or one file with the original keys."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from cnctl.models import diffusers_folder
from cnctl.models.base import Base, TextEncoder, autoencoder_dtype, place_parts
from cnctl.models.family import Family
from cnctl.models.latents import autoencoder_factor
from cnctl.models.location import Location, read_defaults, read_json
from cnctl.models.process import Diffusion
from cnctl.models.unet import single_file


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
    parts = _load_parts(location.path, dtypes=_dtypes(dtype), weights=weights, outlined=outlined)
    place_parts(parts, device, low_memory=low_memory, weights=weights)
    unet, vae = parts["unet"], parts["vae"]
    scheduler = DDIMScheduler.from_config(parts["scheduler"].config, clip_sample=False)
    return Base(
        name=location.name,
        family=family,
        vae=vae,
        text_encoders=_text_encoders(parts),
        denoiser=unet,
        process=Diffusion(scheduler),
        device=device,
        dtype=dtype,
        path=location.path,
        trained_resolution=_side(unet.config.sample_size) * autoencoder_factor(vae),
        low_memory=low_memory,
        zeros_for_empty_prompt=_zeros_for_empty_prompt(location.path, parts),
        defaults=MappingProxyType({**family.defaults, **read_defaults(location.path)}),
    )


def _load_parts(path: Path, **how: Any) -> dict[str, Any]:
    if path.is_file():
        return single_file.load_parts(path, **how)
    denoiser = ("unet", UNet2DConditionModel)
    return diffusers_folder.load_parts(path, denoiser=denoiser, most_text_encoders=2, **how)


def _text_encoders(parts: Mapping[str, Any]) -> tuple[TextEncoder, ...]:
    names = [(f"text_encoder{end}", f"tokenizer{end}") for end in ("", "_2")]
    return tuple(TextEncoder(parts[e], parts[t]) for e, t in names if parts.get(t) is not None)


def _side(sample_size: int | list[int] | tuple[int, ...]) -> int:
    return min(sample_size) if isinstance(sample_size, list | tuple) else sample_size


def _dtypes(dtype: torch.dtype) -> dict[str, torch.dtype]:
    networks = dict.fromkeys(("text_encoder", "text_encoder_2", "unet"), dtype)
    return {"vae": autoencoder_dtype(dtype), **networks}


def _zeros_for_empty_prompt(path: Path, parts: Mapping[str, Any]) -> bool:
    """As a folder's index says; SDXL's own says yes."""
    if path.is_file():
        return "text_encoder_2" in parts
    return bool(read_json(path / "model_index.json").get("force_zeros_for_empty_prompt", False))
