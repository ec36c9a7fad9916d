"""The families of Stable Diffusion 3 and 3.5 as values."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from diffusers import SD3Transformer2DModel

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.family import UNDISTILLED, Family
from cnctl.models.latents import KLLatents
from cnctl.models.location import Location
from cnctl.models.lora import read_lora
from cnctl.models.network import CONTROLNET
from cnctl.models.sd3.base import load_base
from cnctl.models.sd3.controlnet import predict_velocity
from cnctl.models.sd3.files import FILES
from cnctl.models.sd3.format import FORMAT, LAYOUT
from cnctl.models.sd3.lora import NAMES
from cnctl.models.sd3.published import CONTROLNETS
from cnctl.models.sd3.shape import find_known, shape_of
from cnctl.models.sd3.text import Sd3Prompts
from cnctl.models.transformer.base_file import PART
from cnctl.models.transformer.family import SCHEDULER, UNSUPPORTED, all_parameters, refuse
from cnctl.models.transformer.files import completed_by, read_config
from cnctl.models.transformer.fresh import network_builder
from cnctl.models.transformer.starts import HINT_STARTS
from cnctl.models.transformer.weights import (
    check_weights,
    count_residuals,
    find_weights,
    open_network,
    weights_file,
)

ACTIVATION_BYTES = {False: 24, True: 2}
"""Kept for the backward pass, per sample, token of the image, channel, block and byte of precision,
without and with gradient checkpointing. Tensors that autograd saved, at 64 x 64 latents and random
weights: 17 where no block has a second attention, 26 where half of them have."""


RECIPE = {"steps": 15_000, "learning_rate": 1e-5}
"""Of diffusers' README_sd3.md (in batches of 4); no card of a published ControlNet has one."""


def most_layers(base: Base) -> int:
    """All but the last, whose text nobody reads."""
    return len(base.denoiser.transformer_blocks) - 1


def activation_bytes(transformer: SD3Transformer2DModel, checkpointing: bool) -> float:
    """As ACTIVATION_BYTES, for the blocks of this transformer and half as many of a ControlNet."""
    config = transformer.config
    blocks, width = 1.5 * config.num_layers, transformer.inner_dim
    return ACTIVATION_BYTES[checkpointing] * blocks * width / config.patch_size**2


SD3 = Family(
    name="SD3",
    part=PART,
    latents=KLLatents(),
    prompts=Sd3Prompts(),
    layout=LAYOUT,
    repeated_blocks=("JointTransformerBlock", "SD3SingleTransformerBlock"),
    load_base=load_base,
    predict=predict_velocity,
    build_network=network_builder(FORMAT),
    open_network=partial(open_network, FORMAT),
    check_weights=partial(check_weights, FORMAT, FILES),
    count_residuals=partial(count_residuals, FORMAT),
    find_weights=find_weights,
    weights_file=weights_file,
    low_rank=(CONTROLNET,),
    hint_starts=HINT_STARTS,
    unfreezable=("all",),
    parameters_to_unfreeze=all_parameters,
    blocks_before_control=lambda transformer: [],
    activation_bytes=activation_bytes,
    unsupported={**UNSUPPORTED, "distilled_guidance": UNDISTILLED},
    most_layers=most_layers,
    read_lora=partial(read_lora, NAMES),
    read_embedding=refuse("textual inversion", "Stable Diffusion 3", "--embedding"),
    add_embedding=refuse("textual inversion", "Stable Diffusion 3", "--embedding"),
)


def recognise(location: Location) -> Family | None:
    """The family of a base with SD3's transformer, by its config; None for another's.

    CnctlError for a file that nothing completes, and for one that reads more than latents.
    """
    folder = FILES.find_folder(location)
    if folder is None:
        return None
    config = read_config(folder)
    shape = shape_of(config)
    if config.get("out_channels", 16) not in (None, shape.latent_channels):
        raise CnctlError(
            f"{location.name} reads more than latents", hint="give the base that it was made from"
        )
    known = find_known(shape.name)
    defaults: dict[str, Any] = {"scheduler": SCHEDULER, "train": RECIPE}
    if known:
        defaults |= {"steps": known.steps, "guidance_scale": known.guidance_scale}
    return replace(
        SD3,
        name=shape.name,
        completed_by=completed_by(location, folder),
        defaults=defaults,
        controlnets=CONTROLNETS.get(shape.name, {}),
    )
