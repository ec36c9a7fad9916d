"""Bases of true size, or of reduced width, with random weights: nothing is read from a disk.

Other benchmarks import this. Text features are random too, but for `with_text_encoder`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from diffusers.utils import logging
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from cnctl.models.base import Base, TextEncoder, lock
from cnctl.models.family import Family
from cnctl.models.locate import locate_base
from cnctl.models.network import Network
from cnctl.models.process import Diffusion, FlowMatching
from cnctl.models.sd3.family import SD3
from cnctl.models.text_features import TextFeatures
from cnctl.models.unet.family import UNET

Config = Mapping[str, Any]
logging.set_verbosity_error()  # casting a network that keeps no layer in float32 is said each time


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A base by its published config. reduced: what a narrow one has instead.

    text: tokens of a prompt and their width, and the width of a pooled prompt or 0.
    """

    family: Family
    denoiser: type[nn.Module]
    config: Config
    reduced: Config
    text: tuple[int, int, int]
    reduced_text: tuple[int, int, int]
    pixels: int
    autoencoder: Config
    """Fields of its config other than the widths."""
    patch_size: int = 1


SD15 = Kind(
    family=replace(UNET, name="SD 1.x"),
    denoiser=UNet2DConditionModel,
    config={"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    reduced={
        "layers_per_block": 1,
        "block_out_channels": (32, 32, 64, 64),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
    },
    text=(77, 768, 0),
    reduced_text=(77, 32, 0),
    pixels=512,
    autoencoder={"scaling_factor": 0.18215},
)
SDXL = Kind(
    family=replace(UNET, name="SDXL"),
    denoiser=UNet2DConditionModel,
    config={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1280 + 6 * 256,
    },
    reduced={
        "layers_per_block": 1,
        "block_out_channels": (32, 64, 64),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (2, 4, 4),
        "cross_attention_dim": 64,
        "projection_class_embeddings_input_dim": 32 + 6 * 256,
    },
    text=(77, 2048, 1280),
    reduced_text=(77, 64, 32),
    pixels=1024,
    autoencoder={"scaling_factor": 0.13025, "force_upcast": False},
)
SD35_MEDIUM = Kind(
    family=replace(SD3, name="SD3.5 medium"),
    denoiser=SD3Transformer2DModel,
    config={
        "sample_size": 128,
        "num_layers": 24,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "qk_norm": "rms_norm",
        "dual_attention_layers": tuple(range(13)),
        "pos_embed_max_size": 384,
    },
    reduced={
        "num_layers": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "caption_projection_dim": 32,
        "joint_attention_dim": 64,
        "pooled_projection_dim": 32,
        "dual_attention_layers": (0, 1),
    },
    text=(333, 4096, 2048),
    reduced_text=(333, 64, 32),
    pixels=1024,
    autoencoder={
        "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    patch_size=2,
)
KINDS = {"SD 1.5": SD15, "SDXL": SDXL, "SD3.5 medium": SD35_MEDIUM}


def build_base(
    name: str, *, device: str | torch.device, dtype: torch.dtype, reduced: bool = False
) -> Base:
    """The base of KINDS, its weights drawn on the device; without text encoders."""
    kind, device = KINDS[name], torch.device(device)
    width = 32 if reduced else 128
    with torch.device(device):
        torch.manual_seed(0)
        denoiser = kind.denoiser(**{**kind.config, **(kind.reduced if reduced else {})})
        vae = AutoencoderKL(
            block_out_channels=(width, 2 * width, 4 * width, 4 * width),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1 if reduced else 2,
            **{"latent_channels": 4, **kind.autoencoder},
        )
    flows = issubclass(kind.denoiser, SD3Transformer2DModel)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0) if flows else ddim()
    return Base(
        name=name,
        family=kind.family,
        vae=lock(vae).to(dtype),
        text_encoders=(),
        denoiser=lock(denoiser).to(dtype),
        process=FlowMatching(scheduler) if flows else Diffusion(scheduler),
        device=device,
        dtype=dtype,
        path=Path(name),
        trained_resolution=kind.pixels,
        patch_size=kind.patch_size,
    )


def ddim() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def fresh_network(base: Base) -> Network:
    """A ControlNet for it, in its precision, whose zero convolutions are small random numbers."""
    network = base.family.build_network(
        base,
        method="controlnet",
        hint_channels=3,
        hint_encoder="released",
        hint_start="gaussian",
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_blocks")):
                parameter.normal_(std=0.02)
    return lock(network).to(base.dtype)


def text_features(name: str, base: Base, count: int, *, reduced: bool, seed: int) -> TextFeatures:
    """Random ones of `count` prompts."""
    length, width, pooled = KINDS[name].reduced_text if reduced else KINDS[name].text
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, length, width, generator=generator).to(base.device, base.dtype)
    if not pooled:
        return TextFeatures(tokens)
    whole = torch.randn(count, pooled, generator=generator)
    return TextFeatures(tokens, pooled=whole.to(base.device, base.dtype))


def with_text_encoder(base: Base) -> Base:
    """Stable Diffusion 1.5's text encoder, at the width that the base reads; tiny's tokenizer."""
    width = base.denoiser.config.cross_attention_dim
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=12 if width == 768 else 2,
        num_attention_heads=12 if width == 768 else 4,
    )
    with torch.device(base.device):
        model = lock(CLIPTextModel(config)).to(base.dtype)
    tokenizer = CLIPTokenizer.from_pretrained(locate_base("tiny").path / "tokenizer")
    return replace(base, text_encoders=(TextEncoder(model, tokenizer),))


def arithmetic_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP a second that a large matrix product reaches: the floor that a run is held to."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = min(_seconds(lambda: a @ b, device) for _ in range(10))
    return 2 * math.prod((side,) * 3) / seconds


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    begin = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - begin


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
