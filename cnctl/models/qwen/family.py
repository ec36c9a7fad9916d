"""The family of Qwen-Image as a value."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from diffusers import QwenImageTransformer2DModel

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.family import UNDISTILLED, Family
from cnctl.models.location import Location
from cnctl.models.lora import read_lora
from cnctl.models.network import CONTROLNET
from cnctl.models.qwen.base import load_base
from cnctl.models.qwen.blockwise_format import FORMAT as BLOCKWISE
from cnctl.models.qwen.controlnet import (
    LAYERS,
    predict_velocity,
)
from cnctl.models.qwen.files import FILES
from cnctl.models.qwen.format import FORMAT
from cnctl.models.qwen.guidance import guide
from cnctl.models.qwen.latents import QwenLatents
from cnctl.models.qwen.layout import LAYOUT, find_format
from cnctl.models.qwen.lora import NAMES
from cnctl.models.qwen.published import CONTROLNETS
from cnctl.models.qwen.shape import NAME, name_family
from cnctl.models.qwen.text import QwenPrompts
from cnctl.models.qwen.weights import check_weights, count_residuals, open_network
from cnctl.models.transformer.base_file import PART
from cnctl.models.transformer.family import SCHEDULER, UNSUPPORTED, all_parameters, refuse
from cnctl.models.transformer.files import completed_by, read_config
from cnctl.models.transformer.fresh import network_builder
from cnctl.models.transformer.packing import SIDE
from cnctl.models.transformer.starts import HINT_STARTS
from cnctl.models.transformer.weights import find_weights, weights_file

RECIPE = {"steps": 50_000, "learning_rate": 4e-5, "prompt_dropout": 0.1}
"""What InstantX's union was trained with (its model card; in batches of 64)."""
ACTIVATION_BYTES = {False: 24, True: 2}
"""As SD3's, whose blocks these are."""


def most_layers(base: Base) -> int:
    """All of its blocks."""
    return len(base.denoiser.transformer_blocks)


def activation_bytes(transformer: QwenImageTransformer2DModel, checkpointing: bool) -> float:
    """As ACTIVATION_BYTES, for the blocks of this transformer and five of a ControlNet."""
    blocks, width = transformer.config.num_layers + LAYERS, transformer.inner_dim
    return ACTIVATION_BYTES[checkpointing] * blocks * width / SIDE**2


QWEN = Family(
    name=NAME,
    part=PART,
    latents=QwenLatents(),
    prompts=QwenPrompts(),
    layout=LAYOUT,
    repeated_blocks=("QwenImageTransformerBlock", "BlockwiseControlBlock"),
    load_base=load_base,
    predict=predict_velocity,
    guide=guide,
    controls_read_prompt=True,
    build_network=network_builder(FORMAT),
    open_network=open_network,
    check_weights=check_weights,
    count_residuals=count_residuals,
    find_weights=find_weights,
    reads_tokens=lambda source: find_format(source) is BLOCKWISE,
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
    read_embedding=refuse("textual inversion", NAME, "--embedding"),
    add_embedding=refuse("textual inversion", NAME, "--embedding"),
)


def recognise(location: Location) -> Family | None:
    """The family of a base with Qwen-Image's transformer, by its config; None for another's.

    CnctlError for a file that nothing completes, and for one that reads more than latents.
    """
    folder = FILES.find_folder(location)
    if folder is None:
        return None
    config = read_config(folder)
    more = ("zero_cond_t", "use_additional_t_cond", "use_layer3d_rope")
    if any(config.get(field) for field in more):
        raise CnctlError(
            f"{location.name} reads more than latents, as Qwen-Image's editors and layers do",
            hint="give a base for images from text: qwen-image",
        )
    name = name_family(config)
    defaults = {"scheduler": SCHEDULER, "steps": 50, "guidance_scale": 4.0, "train": RECIPE}
    return replace(
        QWEN,
        name=name,
        completed_by=completed_by(location, folder),
        defaults=defaults,
        controlnets=CONTROLNETS.get(name, {}),
    )
