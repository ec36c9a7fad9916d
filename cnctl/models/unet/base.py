"""Load a base with a U-Net, from a diffusers folder or one file with the original keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn

from cnctl.models import diffusers_folder
from cnctl.models.base import Base, TextEncoder, lock
from cnctl.models.family import Family
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
) -> Base:
    """The base at this place, locked; see `cnctl.models.families.load_base`."""
    parts = _load_parts(location.path, dtypes=_dtypes(dtype), weights=weights)
    host = torch.device("cpu") if low_memory else device
    for part in parts.values():
        if isinstance(part, nn.Module):
            lock(part).to(host if weights else "meta")
    if low_memory and hasattr(parts["vae"], "enable_tiling"):
        parts["vae"].enable_tiling()
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
        trained_resolution=_side(unet.config.sample_size)
        * 2 ** (len(vae.config.block_out_channels) - 1),
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


def _factor(vae: Any) -> int:
    return 2 ** (len(vae.config.block_out_channels) - 1)


def _dtypes(dtype: torch.dtype) -> dict[str, torch.dtype]:
    # float16 overflows in some autoencoders, and the picture turns black.
    vae = torch.float32 if dtype == torch.float16 else dtype
    return {"vae": vae, "text_encoder": dtype, "text_encoder_2": dtype, "unet": dtype}


def _zeros_for_empty_prompt(path: Path, parts: Mapping[str, Any]) -> bool:
    """As a folder's index says; SDXL's own says yes."""
    if path.is_file():
        return "text_encoder_2" in parts
    return bool(read_json(path / "model_index.json").get("force_zeros_for_empty_prompt", False))
