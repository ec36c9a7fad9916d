"""`cnctl convert --init-from-base`: a ControlNet before its first step of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

from cnctl.commands.convert.output import ConvertResult, Made, Output, measured_digest, write
from cnctl.commands.convert.progress import Meter, Progress, silence
from cnctl.commands.convert.run import find_base
from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint import config as configs
from cnctl.models.unet.checkpoint import keymap
from cnctl.models.unet.checkpoint.architecture import Architecture
from cnctl.models.unet.checkpoint.base_file import Unet, open_unet
from cnctl.models.unet.checkpoint.forms import choose_form
from cnctl.models.unet.checkpoint.tensors import read_encoder_tensors
from cnctl.models.unet.controlnet import (
    HINT_ENCODERS,
    PAPER_WIDTHS,
    PaperHintEncoder,
    released_widths,
    start_gaussian,
)
from cnctl.models.unet.shape import shape_of
from cnctl.tensorfiles.lazy import Tensors, ready
from cnctl.tensorfiles.write import check_target

STEM = "controlnet_cond_embedding."
MAX_HINT_CHANNELS = 256


def add_control(
    base: str | Path,
    target: str | Path,
    *,
    to: str | None = None,
    dtype: str | None = None,
    config: str | Path | None = None,
    hint_channels: int = 3,
    hint_encoder: str = "released",
    seed: int = 0,
    condition: str = "",
    overwrite: bool = False,
    progress: Progress = silence,
) -> ConvertResult:
    """Write an untrained ControlNet for a base: the original's tool_add_control.

    The trainable copy holds the base's encoder and middle block, what connects is zero, and the
    hint encoder starts from `seed` as in training: it does nothing yet, exactly. base: as for
    `cnctl train`.
    hint_encoder: "released" or "paper", see `cnctl.models.unet.controlnet.build_controlnet`.
    """
    if hint_encoder not in HINT_ENCODERS:
        raise CnctlError(
            f"unknown hint encoder {hint_encoder!r}", hint=f"use one of {', '.join(HINT_ENCODERS)}"
        )
    if not 1 <= hint_channels <= MAX_HINT_CHANNELS:
        raise CnctlError(
            f"a hint of {hint_channels} channels", hint=f"give 1 to {MAX_HINT_CHANNELS}"
        )
    output = Output(
        path=Path(target), form=choose_form(to, Path(target)), dtype=dtype, overwrite=overwrite
    )
    check_target(output.path, overwrite=overwrite)
    unet = open_unet(find_base(base))
    architecture = _with_hint(unet.architecture, hint_channels, hint_encoder)
    settings = _config(unet, architecture, Path(config) if config else None)
    known = {"condition": condition, "family": shape_of(settings).name}
    meter = Meter(progress, architecture)
    made = Made(
        tensors=_initial(unet, architecture, seed),
        architecture=architecture,
        config=settings,
        description={k: v for k, v in known.items() if v} | {"hint_channels": hint_channels},
        origin={"form": "base", "sha256": measured_digest(unet.path, meter), "seed": seed},
        notes=("untrained: it changes nothing until it is trained",),
        source=unet.path,
    )
    return write(made, output, verify=False, meter=meter)


def _with_hint(encoder: Architecture, channels: int, form: str) -> Architecture:
    widths = PAPER_WIDTHS if form == "paper" else released_widths(encoder.widths[0])
    return replace(encoder, hint_channels=channels, hint_widths=widths, hint_encoder=form)


def _config(unet: Unet, architecture: Architecture, given: Path | None) -> configs.Config:
    if given or unet.config:
        known = configs.read_config(given) if given else unet.config
        config = configs.fill_config(known, architecture)
    else:
        config = configs.config_from_shapes(architecture)
    configs.check_config(config, architecture)
    return config


def _initial(unet: Unet, architecture: Architecture, seed: int) -> Tensors:
    """Copied tensors from the base, a fresh hint encoder, zeros for the rest."""
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
