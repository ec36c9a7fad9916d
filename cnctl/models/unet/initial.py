"""The tensors of a ControlNet before its first step of training, from the file of a base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

from cnctl.models.unet.checkpoint import config as configs
from cnctl.models.unet.checkpoint import keymap
from cnctl.models.unet.checkpoint.architecture import Architecture
from cnctl.models.unet.checkpoint.base_file import Unet
from cnctl.models.unet.checkpoint.tensors import read_encoder_tensors
from cnctl.models.unet.controlnet import (
    PAPER_WIDTHS,
    PaperHintEncoder,
    released_widths,
    start_gaussian,
)
from cnctl.models.unet.shape import shape_of
from cnctl.models.weights_place import read_config
from cnctl.tensorfiles.lazy import Tensors, ready

STEM = "controlnet_cond_embedding."


def initial_architecture(unet: Unet, *, hint_channels: int, hint_encoder: str) -> Architecture:
    """The architecture of a ControlNet for this U-Net."""
    encoder = unet.architecture
    widths = PAPER_WIDTHS if hint_encoder == "paper" else released_widths(encoder.widths[0])
    return replace(
        encoder, hint_channels=hint_channels, hint_widths=widths, hint_encoder=hint_encoder
    )


def initial_config(unet: Unet, architecture: Architecture, given: Path | None) -> configs.Config:
    """Its config: the one given, else after the base's, else from the shapes."""
    if given or unet.config:
        known = read_config(given) if given else unet.config
        config = configs.fill_config(known, architecture)
    else:
        config = configs.config_from_shapes(architecture)
    configs.check_config(config, architecture)
    return config


def initial_tensors(unet: Unet, architecture: Architecture, *, seed: int) -> Tensors:
    """Its tensors: the base's, a fresh hint encoder from the seed, zeros for the rest."""
    copied = read_encoder_tensors(unet)
    dtype = next(iter(copied.values())).dtype
    fresh = {
        STEM + name: ready(tensor.to(dtype))
        for name, tensor in _hint_encoder(architecture, seed).state_dict().items()
    }
    zeros = {
        pair.diffusers: ready(torch.zeros(pair.shape, dtype=dtype))
        for pair in keymap.pairs(architecture)
        if not pair.copied and not pair.diffusers.startswith(STEM)
    }
    return copied | fresh | zeros


def family_name(config: configs.Config) -> str:
    """The family of the base that it fits."""
    return shape_of(config).name


def _hint_encoder(a: Architecture, seed: int) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if a.hint_encoder == "paper":
            return PaperHintEncoder(a.hint_channels, a.widths[0])
        module: torch.nn.Module = ControlNetConditioningEmbedding(
            conditioning_embedding_channels=a.widths[0],
            conditioning_channels=a.hint_channels,
            block_out_channels=a.hint_widths,
        )
        start_gaussian(module)
        return module
