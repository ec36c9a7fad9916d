"""Conversion of ControlNets for U-Nets; diffusers is imported only where a network runs."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.combine import average, transfer
from cnctl.models.conversion import Conversion
from cnctl.models.finite import checked
from cnctl.models.low_rank import factorise
from cnctl.models.unet.checkpoint import keymap, published
from cnctl.models.unet.checkpoint.architecture import Architecture
from cnctl.models.unet.checkpoint.base_file import Unet, open_unet
from cnctl.models.unet.checkpoint.forms import LORA, choose_form, rename
from cnctl.models.unet.checkpoint.full_checkpoint import base_update
from cnctl.models.unet.checkpoint.recognise import FULL
from cnctl.models.unet.checkpoint.source import describe, open_source
from cnctl.models.unet.checkpoint.tensors import read_encoder_tensors, read_tensors
from cnctl.models.unet.config import read_prediction
from cnctl.models.write_weights import write_weights
from cnctl.tensorfiles.lazy import Tensors

HINT_ENCODERS = ("released", "paper")


def check_form(architecture: Architecture, form: str, source: Path) -> None:
    """CnctlError where the original's form has no names for such a ControlNet."""
    if form == "diffusers" or architecture.has_original_names:
        return
    what = "is a ControlNet-Union" if architecture.union else "has the paper's hint encoder"
    raise CnctlError(f"{source} {what}, unknown to the original's form", hint="use --to diffusers")


def float32_bytes(architecture: Architecture) -> int:
    """How many bytes the tensors take in float32."""
    return 4 * sum(prod(pair.shape) for pair in keymap.pairs(architecture))


def renamed(tensors: Tensors, architecture: Architecture, form: str) -> Tensors:
    """The tensors under the names of a form."""
    return rename(tensors, keymap.pairs(architecture), form)


def factorised(
    tensors: Tensors, base: Tensors, architecture: Architecture, **how: Any
) -> tuple[Tensors, float]:
    """The tensors as a Control-LoRA, and the share of the learnt change that it loses."""
    return factorise(tensors, base, keymap.pairs(architecture), **how)


def residuals(
    tensors: Tensors, architecture: Architecture, config: Mapping[str, Any], *, where: Path
) -> list[torch.Tensor]:
    """The residuals of random latents, text features and hint, in float32."""
    from cnctl.models.unet.respond import residuals

    return residuals(tensors, architecture, config, where=where)


def initial(
    unet: Unet, *, config: Path | None, hint_channels: int, hint_encoder: str
) -> tuple[Architecture, Mapping[str, Any], str]:
    """Architecture, config and family of an untrained ControlNet for this base."""
    from cnctl.models.unet.initial import family_name, initial_architecture, initial_config

    architecture = initial_architecture(
        unet, hint_channels=hint_channels, hint_encoder=hint_encoder
    )
    settings = initial_config(unet, architecture, config)
    return architecture, settings, family_name(settings)


def initial_tensors(
    unet: Unet, architecture: Architecture, config: Mapping[str, Any], *, seed: int
) -> Tensors:
    """The tensors of an untrained ControlNet."""
    from cnctl.models.unet.initial import initial_tensors

    return initial_tensors(unet, architecture, seed=seed)


CONVERSION = Conversion(
    open=open_source,
    describe=describe,
    named_condition=published.condition_of,
    known_quirk=published.known_quirk,
    read=read_tensors,
    bytes=float32_bytes,
    average=average,
    open_base=open_unet,
    read_prediction=read_prediction,
    read_base=lambda unet, architecture, config: read_encoder_tensors(unet),
    transfer=transfer,
    base_update=base_update,
    is_full=lambda source: source.form.label == FULL,
    choose_form=choose_form,
    check_form=check_form,
    is_low_rank=lambda form: form == LORA,
    check=checked,
    rename=renamed,
    factorise=factorised,
    write=write_weights,
    residuals=residuals,
    hint_encoders=HINT_ENCODERS,
    initial=initial,
    initial_tensors=initial_tensors,
)
