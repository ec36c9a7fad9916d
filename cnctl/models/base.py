"""A base model: autoencoder, text encoders, tokenizers, U-Net and noise schedule.

Bases are read from a diffusers folder, from a hub id that is in the cache already, or from one
safetensors file with Stable Diffusion's original keys. Nothing is downloaded here. Families are
told apart by shape, from configs and headers, before any weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn

from cnctl.errors import CnctlError
from cnctl.models import diffusers_folder
from cnctl.models.device import pick_device, pick_dtype
from cnctl.models.families import REFINER, Family, family_of
from cnctl.models.locate import Location, locate_base, read_defaults, read_json
from cnctl.models.unet import single_file
from cnctl.models.unet.controlnet import lock
from cnctl.models.unet.single_file_configs import read_configs, read_shapes


@dataclass(frozen=True)
class Base:
    """A locked base model, ready on its device. `defaults` are the ones that it brings along."""

    name: str
    family: Family
    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    """The noise schedule; the paper samples by DDIM (section 4.1)."""
    device: torch.device
    dtype: torch.dtype
    path: Path
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    text_encoder_2: Any = None
    """SDXL's second one; None in the other families."""
    tokenizer_2: Any = None
    zeros_for_empty_prompt: bool = False
    """Whether zeros stand for the features of an empty prompt, as SDXL was trained with."""

    low_memory: bool = False
    """Whether networks wait in the host's memory, and large images are decoded in tiles."""
    read_already: Mapping[Any, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Text features of prompts, by `cnctl.models.unet.text.read_beforehand`."""

    @property
    def text_encoders(self) -> list[tuple[Any, Any]]:
        """Each text encoder with its tokenizer."""
        second = (self.text_encoder_2, self.tokenizer_2)
        return [(self.text_encoder, self.tokenizer), second][: 2 if self.tokenizer_2 else 1]

    @property
    def home(self) -> torch.device:
        """Where networks are while they do not work."""
        return torch.device("cpu") if self.low_memory else self.device

    @property
    def latent_factor(self) -> int:
        """Pixels per latent, along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def resolution(self) -> int:
        """Short side in pixels that the base was trained on."""
        size = self.unet.config.sample_size
        side = min(size) if isinstance(size, list | tuple) else size
        return int(self.defaults.get("resolution", side * self.latent_factor))

    @property
    def prediction_type(self) -> str:
        """What the U-Net predicts: "epsilon" or "v_prediction"."""
        return self.scheduler.config.prediction_type


def load_base(
    source: str | Path,
    *,
    device: str | torch.device | None = "cpu",
    dtype: str | torch.dtype | None = None,
    low_memory: bool = False,
    weights: bool = True,
) -> Base:
    """A base from a short name, a diffusers folder, a cached hub id or one safetensors file.

    device: None picks the fastest; dtype: None picks what suits the device. low_memory: keep the
    networks on the host, and decode images larger than the base was trained on in tiles. weights:
    without them the networks are outlines on the meta device: they have sizes and compute nothing.
    Raises MissingError when it is not at hand, DeviceError when the device is not there, and
    CnctlError when it is no base that this program knows.
    """
    location = locate_base(source)
    device = pick_device(device)
    dtype = pick_dtype(device, dtype)
    family = _family_at(location)
    load_parts = (single_file if location.path.is_file() else diffusers_folder).load_parts
    parts = load_parts(location.path, dtypes=_dtypes(dtype), weights=weights)
    host = torch.device("cpu") if low_memory else device
    for part in parts.values():
        if isinstance(part, nn.Module):
            lock(part).to(host if weights else "meta")
    if low_memory and hasattr(parts["vae"], "enable_tiling"):
        parts["vae"].enable_tiling()
    scheduler = DDIMScheduler.from_config(parts.pop("scheduler").config, clip_sample=False)
    return Base(
        name=location.name,
        family=family,
        **parts,
        scheduler=scheduler,
        device=device,
        dtype=dtype,
        path=location.path,
        low_memory=low_memory,
        zeros_for_empty_prompt=_zeros_for_empty_prompt(location.path, parts),
        defaults=MappingProxyType(read_defaults(location.path)),
    )


def read_family(source: str | Path) -> Family:
    """The family of a base, from its config or its file's header; no weight is read."""
    return _family_at(locate_base(source))


def _dtypes(dtype: torch.dtype) -> dict[str, torch.dtype]:
    # float16 overflows in some autoencoders, and the picture turns black.
    vae = torch.float32 if dtype == torch.float16 else dtype
    return {"vae": vae, "text_encoder": dtype, "text_encoder_2": dtype, "unet": dtype}


def _family_at(location: Location) -> Family:
    if location.path.is_file():
        config = read_configs(read_shapes(location.path))["unet"]
    else:
        config = read_json(location.path / "unet" / "config.json")
    family = family_of(config)
    if family.name == REFINER:
        raise CnctlError(
            f"{location.name} is SDXL's refiner, which takes no ControlNet", hint="give SDXL's base"
        )
    return family


def _zeros_for_empty_prompt(path: Path, parts: Mapping[str, Any]) -> bool:
    """As a folder's index says; SDXL's own says yes."""
    if path.is_file():
        return "text_encoder_2" in parts
    return bool(read_json(path / "model_index.json").get("force_zeros_for_empty_prompt", False))
