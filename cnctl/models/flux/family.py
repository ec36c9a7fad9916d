"""The family of FLUX.1 as a value."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from diffusers import FluxTransformer2DModel

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.family import UNDISTILLED, Family
from cnctl.models.flux.base import load_base
from cnctl.models.flux.controlnet import (
    GUIDANCE,
    predict_velocity,
)
from cnctl.models.flux.files import FILES
from cnctl.models.flux.format import FORMAT, LAYOUT
from cnctl.models.flux.input_concat import build_input_concat
from cnctl.models.flux.lora import NAMES
from cnctl.models.flux.published import CONTROLNETS
from cnctl.models.flux.shape import NAME, name_family
from cnctl.models.flux.text import FluxPrompts
from cnctl.models.flux.weights import (
    check_weights,
    count_residuals,
    find_weights,
    open_network,
    weights_file,
)
from cnctl.models.latents import KLLatents
from cnctl.models.location import Location
from cnctl.models.lora import read_lora
from cnctl.models.network import CONTROLNET, INPUT_CONCAT, Network
from cnctl.models.signatures import OF_FLUX_DEV
from cnctl.models.transformer.base_file import PART
from cnctl.models.transformer.family import SCHEDULER, UNSUPPORTED, all_parameters, refuse
from cnctl.models.transformer.files import completed_by, read_config
from cnctl.models.transformer.fresh import network_builder
from cnctl.models.transformer.packing import SIDE
from cnctl.models.transformer.starts import HINT_STARTS
from cnctl.models.transformer.weights import check_hint_channels
from cnctl.weights import control_types

ACTIVATION_BYTES = {False: 24, True: 2}
"""As SD3's, whose blocks those of two streams are."""


RECIPE = {"steps": 30_000, "learning_rate": 2e-5, "prompt_dropout": 0.2}
"""Steps of InstantX's ControlNet for canny, which reads one kind of hint too (in batches of 64);
rate and dropout of Union-Pro-2.0, whose blocks a fresh one has: their model cards."""


def most_layers(base: Base) -> int:
    """As many as it has blocks of two streams."""
    return len(base.denoiser.transformer_blocks)


def activation_bytes(transformer: FluxTransformer2DModel, checkpointing: bool) -> float:
    """As ACTIVATION_BYTES, for the blocks of this transformer and six of a ControlNet."""
    config = transformer.config
    blocks = config.num_layers + config.num_single_layers / 2 + 6
    return ACTIVATION_BYTES[checkpointing] * blocks * transformer.inner_dim / SIDE**2


LACKS = {name: why for name, why in UNSUPPORTED.items() if name != "method"}
_build_controlnet = network_builder(FORMAT)


def build_network(base: Base, *, method: str, rank: int = 0, seed: int = 0, **how: Any) -> Network:
    """A fresh ControlNet or Control-LoRA, or the base with a LoRA that reads the hint."""
    if method != INPUT_CONCAT:
        return _build_controlnet(base, rank=rank, seed=seed, **how)
    check_hint_channels(NAME, "this condition", how["hint_channels"])
    return build_input_concat(base.denoiser, rank=rank, seed=seed)


FLUX = Family(
    name=NAME,
    part=PART,
    latents=KLLatents(),
    prompts=FluxPrompts(),
    layout=LAYOUT,
    repeated_blocks=("FluxTransformerBlock", "FluxSingleTransformerBlock"),
    load_base=load_base,
    predict=predict_velocity,
    controls_read_prompt=True,
    build_network=build_network,
    open_network=open_network,
    check_weights=check_weights,
    count_residuals=count_residuals,
    find_weights=find_weights,
    weights_file=weights_file,
    low_rank=(CONTROLNET, INPUT_CONCAT),
    hint_starts=HINT_STARTS,
    unfreezable=("all",),
    parameters_to_unfreeze=all_parameters,
    blocks_before_control=lambda transformer: [],
    activation_bytes=activation_bytes,
    control_types=control_types(CONTROLNETS[NAME]),
    unsupported=LACKS,
    most_layers=most_layers,
    read_lora=partial(read_lora, NAMES),
    read_embedding=refuse("textual inversion", NAME, "--embedding"),
    add_embedding=refuse("textual inversion", NAME, "--embedding"),
)


def recognise(location: Location) -> Family | None:
    """The family of a base with FLUX.1's transformer, by its config; None for another's.

    CnctlError for a file that nothing completes, and for one that reads more than latents.
    """
    folder = FILES.find_folder(location)
    if folder is None:
        return None
    config = read_config(folder)
    channels = config.get("in_channels", 64)
    if config.get("out_channels") not in (None, channels):
        raise CnctlError(
            f"{location.name} reads more than latents, as FLUX.1 Fill, Canny and Depth do",
            hint=OF_FLUX_DEV,
        )
    name = name_family(config)
    family = replace(
        FLUX,
        name=name,
        completed_by=completed_by(location, folder),
        controlnets=CONTROLNETS.get(name, {}),
    )
    # Both are distilled: neither needs guidance by a second prompt (their model cards).
    defaults: dict[str, Any] = {
        "scheduler": SCHEDULER,
        "guidance_scale": 1.0,
        "train": RECIPE,
    }
    if config.get("guidance_embeds"):
        return replace(family, defaults=defaults | {"steps": 28, "distilled_guidance": GUIDANCE})
    unsupported = {**LACKS, "distilled_guidance": UNDISTILLED}
    return replace(family, defaults=defaults | {"steps": 4}, unsupported=unsupported)
