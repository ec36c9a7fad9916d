"""A base model: autoencoder, text encoders, tokenizers, denoiser and noise process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from cnctl.errors import CnctlError
from cnctl.models.family import Family
from cnctl.models.process import Process


class TextEncoder(NamedTuple):
    """A text encoder with its tokenizer. model: None once its prompts are read."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True)
class Base:
    """A locked base model, ready on its device. `defaults` are its own."""

    name: str
    family: Family
    vae: Any
    text_encoders: tuple[TextEncoder, ...]
    denoiser: Any
    """The network that predicts the noise: a diffusers U-Net or transformer."""
    process: Process
    device: torch.device
    dtype: torch.dtype
    path: Path
    trained_resolution: int
    """Short side in pixels that its config names."""
    patch_size: int = 1
    """Latents per token of the denoiser, along a side."""
    largest_side: int | None = None
    """Pixels that its position embedding reaches along a side; None for any number."""
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    zeros_for_empty_prompt: bool = False
    """Whether zeros stand for the features of an empty prompt, as SDXL was trained with."""
    quantized: str = ""
    """The form of its linear layers, of `cnctl.models.quantize`; "" for the base's precision."""
    low_memory: bool = False
    """Whether networks wait in the host's memory, and large images are decoded in tiles."""
    assumed: str = ""
    """What was taken from elsewhere or left out, in a sentence."""
    prompt_cache: Mapping[Any, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Text features of prompts, by `cnctl.models.prompts.precompute_prompts`."""

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Denoiser and text encoders, by the names of their folders in a diffusers base."""
        encoders = {
            f"text_encoder_{number}" if number > 1 else "text_encoder": encoder.model
            for number, encoder in enumerate(self.text_encoders, start=1)
            if encoder.model is not None
        }
        return {self.family.part: self.denoiser, **encoders}

    @property
    def offload_device(self) -> torch.device:
        """Where networks are while they do not run."""
        return torch.device("cpu") if self.low_memory else self.device

    @property
    def latent_factor(self) -> int:
        """Pixels per latent, along a side."""
        return self.family.latents.factor(self)

    @property
    def size_multiple(self) -> int:
        """What height and width in pixels must be multiples of."""
        return self.latent_factor * self.patch_size

    @property
    def resolution(self) -> int:
        """Short side in pixels that the base was trained on."""
        return int(self.defaults.get("resolution", self.trained_resolution))

    @property
    def distilled_guidance(self) -> float | None:
        """The scale of guidance that the denoiser is given; None where it reads none."""
        return self.defaults.get("distilled_guidance")

    @property
    def denoiser_weights(self) -> Path | None:
        """The file that identifies a fine-tune of a base: its only one, or the denoiser's first."""
        if self.path.is_file():
            return self.path
        return next(iter(sorted((self.path / self.family.part).glob("*.safetensors"))), None)


def check_size(base: Base, *, height: int, width: int) -> None:
    """Raise CnctlError where the base cannot generate images of this size."""
    multiple, largest = base.size_multiple, base.largest_side
    if height % multiple or width % multiple or min(height, width) < multiple:
        raise CnctlError(
            f"{width}x{height} pixels cannot be generated",
            hint=f"width and height must be multiples of {multiple}",
        )
    if largest is not None and max(height, width) > largest:
        raise CnctlError(
            f"{width}x{height} pixels cannot be generated",
            hint=f"{base.name} generates at most {largest} pixels along a side",
        )


def place_parts(
    parts: Mapping[str, Any], device: torch.device, *, low_memory: bool, weights: bool
) -> None:
    """Lock the networks among a base's parts and put them where they wait, see `load_base`."""
    host = torch.device("cpu") if low_memory else device
    for part in parts.values():
        if isinstance(part, nn.Module):
            has_weights = weights and not any(one.is_meta for one in part.parameters())
            lock(part).to(host if has_weights else "meta")
    if low_memory and hasattr(parts["vae"], "enable_tiling"):
        parts["vae"].enable_tiling()


def autoencoder_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of the autoencoder: float16 overflows in some, and the picture turns black."""
    return torch.float32 if dtype == torch.float16 else dtype


def lock(module: nn.Module) -> nn.Module:
    """The same module, in evaluation mode and closed to gradients."""
    return module.requires_grad_(False).eval()
