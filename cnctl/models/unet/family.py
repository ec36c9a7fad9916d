"""The families of U-Nets as values: Stable Diffusion 1.x, 2.x, XL, and the embedded base."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from diffusers import UNet2DConditionModel
from torch import nn

from cnctl.errors import CnctlError
from cnctl.models.adapters import add_adapters
from cnctl.models.base import Base
from cnctl.models.family import UNDISTILLED, Family
from cnctl.models.latents import KLLatents
from cnctl.models.location import Location
from cnctl.models.lora import read_lora
from cnctl.models.network import CONTROLNET, INPUT_CONCAT, Network
from cnctl.models.unet.base import load_base
from cnctl.models.unet.branch import predict_noise
from cnctl.models.unet.checkpoint.averaging import FIELD as AVERAGES
from cnctl.models.unet.checkpoint.lora import NAMES
from cnctl.models.unet.checkpoint.published import AVERAGED
from cnctl.models.unet.checkpoint.textual_inversion import read_embedding
from cnctl.models.unet.config import PART, read_denoiser_config
from cnctl.models.unet.controlnet import HINT_ENCODERS, HINT_STARTS, build_controlnet
from cnctl.models.unet.input_concat import build_input_concat
from cnctl.models.unet.known import KNOWN
from cnctl.models.unet.layout import LAYOUT
from cnctl.models.unet.published import CONTROLNETS
from cnctl.models.unet.shape import check_reads_latents, shape_of
from cnctl.models.unet.text import ClipPrompts
from cnctl.models.unet.textual_inversion import add_embedding
from cnctl.models.unet.unfreeze import UNFREEZABLE, unfreezable_parameters
from cnctl.models.unet.weights import (
    check_weights,
    count_residuals,
    find_weights,
    open_network,
    weights_file,
)
from cnctl.weights import control_types

ACTIVATION_BYTES = {False: 315, True: 75}
"""Kept for the backward pass, per sample, latent pixel, channel of the first block and byte of
precision, without and with gradient checkpointing: Stable Diffusion 1.5 keeps 786 and 185 MiB at
64 x 64 latents in two bytes."""


def is_own(name: str) -> bool:
    """Whether a parameter of a ControlNet is one that no base has: of hint encoder, and links."""
    return name.startswith("controlnet_")


def build_network(
    base: Base,
    *,
    method: str,
    hint_channels: int,
    hint_encoder: str,
    hint_start: str,
    layers: int = 0,
    rank: int = 0,
    seed: int = 0,
    condition: str = "",
) -> Network:
    """A fresh ControlNet, a Control-LoRA of this rank, or a U-Net that reads the hint.

    condition: a ControlNet for shuffle averages its residuals, as the published one does.
    """
    if method == INPUT_CONCAT:
        return build_input_concat(base.denoiser, hint_channels=hint_channels)
    controlnet = build_controlnet(
        base.denoiser,
        hint_channels=hint_channels,
        hint_encoder=hint_encoder,
        hint_start=hint_start,
        seed=seed,
    )
    controlnet.register_to_config(**{AVERAGES: condition in AVERAGED})
    if rank:
        add_adapters(controlnet, is_own=is_own, rank=rank, seed=seed)
    return controlnet


def blocks_before_control(unet: UNet2DConditionModel) -> list[nn.Module]:
    """Encoder and middle block."""
    return [*unet.down_blocks, unet.mid_block]


def activation_bytes(unet: UNet2DConditionModel, checkpointing: bool) -> float:
    """As ACTIVATION_BYTES, for this U-Net's width."""
    return ACTIVATION_BYTES[checkpointing] * unet.config.block_out_channels[0]


UNET = Family(
    name="U-Net",
    part=PART,
    latents=KLLatents(),
    prompts=ClipPrompts(),
    layout=LAYOUT,
    repeated_blocks=("BasicTransformerBlock",),
    load_base=load_base,
    predict=predict_noise,
    build_network=build_network,
    open_network=open_network,
    check_weights=check_weights,
    count_residuals=count_residuals,
    find_weights=find_weights,
    weights_file=weights_file,
    low_rank=(CONTROLNET,),
    hint_encoders=HINT_ENCODERS,
    hint_starts=HINT_STARTS,
    unfreezable=UNFREEZABLE,
    parameters_to_unfreeze=unfreezable_parameters,
    blocks_before_control=blocks_before_control,
    activation_bytes=activation_bytes,
    control_types=control_types(CONTROLNETS["SDXL"]),
    unsupported={
        "distilled_guidance": UNDISTILLED,
        "layers": "a copy of a U-Net's encoder has all of its blocks",
    },
    read_lora=partial(read_lora, NAMES),
    read_embedding=read_embedding,
    add_embedding=add_embedding,
)


def recognise(location: Location) -> Family | None:
    """The family of a base with a U-Net, by its shapes; None where it has none.

    CnctlError for a base without ControlNets.
    """
    config = read_denoiser_config(location)
    if config is None:
        return None
    shape = shape_of(config)
    check_reads_latents(config, location.name)
    if shape.name in {known.name for known in KNOWN if not known.takes_control}:
        raise CnctlError(
            f"{location.name} is of the family {shape.name}, which has no ControlNets",
            hint="give the base that it refines",
        )
    return replace(UNET, name=shape.name, controlnets=CONTROLNETS.get(shape.name, {}))
