"""`cnctl convert --init-from-base`: a ControlNet before its first step of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

from cnctl.commands.convert.output import Converted, ConvertResult, Output, measured_digest, write
from cnctl.commands.convert.progress import Meter
from cnctl.commands.convert.request import InitRequest
from cnctl.commands.convert.run import find_base
from cnctl.commands.shared.events import Stage, ignore
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


def init_from_base(
    request: InitRequest, *, on_event: Callable[[Stage], None] = ignore
) -> ConvertResult:
    """Write an untrained ControlNet for a base, as the original's tool_add_control does.

    The trainable copy holds the base's encoder and middle block, the zero convolutions are zero,
    and the hint encoder starts from the seed as in training: it changes nothing yet, exactly.
    """
    _check(request)
    output = Output(
        path=Path(request.target),
        form=choose_form(request.to, Path(request.target)),
        dtype=request.dtype,
        overwrite=request.overwrite,
    )
    check_target(output.path, overwrite=output.overwrite)
    unet = open_unet(find_base(request.base))
    architecture = _with_hint(unet.architecture, request.hint_channels, request.hint_encoder)
    meter = Meter(on_event, architecture)
    untrained = _untrained(unet, architecture, request, meter)
    return write(untrained, output, verify=False, meter=meter)


def _check(request: InitRequest) -> None:
    if request.hint_encoder not in HINT_ENCODERS:
        raise CnctlError(
            f"unknown hint encoder {request.hint_encoder!r}",
            hint=f"use one of {', '.join(HINT_ENCODERS)}",
        )
    if not 1 <= request.hint_channels <= MAX_HINT_CHANNELS:
        raise CnctlError(
            f"a hint of {request.hint_channels} channels", hint=f"give 1 to {MAX_HINT_CHANNELS}"
        )


def _untrained(
    unet: Unet, architecture: Architecture, request: InitRequest, meter: Meter
) -> Converted:
    settings = _config(unet, architecture, Path(request.config) if request.config else None)
    known = {"condition": request.condition, "family": shape_of(settings).name}
    description = {name: value for name, value in known.items() if value}
    digest = measured_digest(unet.path, meter)
    return Converted(
        tensors=_initial(unet, architecture, request.seed),
        architecture=architecture,
        config=settings,
        description=description | {"hint_channels": request.hint_channels},
        origin={"form": "base", "sha256": digest, "seed": request.seed},
        notes=("untrained: it changes nothing until it is trained",),
        source=unet.path,
    )


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
