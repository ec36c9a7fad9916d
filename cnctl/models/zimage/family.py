"""Z-Image and Z-Image-Turbo as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import ZImageTransformer2DModel

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.family import UNDISTILLED, Family
from cnctl.models.latents import KLLatents
from cnctl.models.location import Location, read_json
from cnctl.models.lora import read_lora
from cnctl.models.network import CONTROLNET
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
from cnctl.models.zimage.base import load_base
from cnctl.models.zimage.files import FILES
from cnctl.models.zimage.format import FORMAT, LAYOUT
from cnctl.models.zimage.lora import NAMES
from cnctl.models.zimage.predict import predict_velocity
from cnctl.models.zimage.published import CONTROLNETS, PLAIN, TURBO
from cnctl.models.zimage.shape import PATCH_SIZE, shape_of, with_defaults
from cnctl.models.zimage.text import ZImagePrompts

ACTIVATION_BYTES = {False: 22, True: 2}
"""Kept for the backward pass, per sample, token of the image, channel, layer and byte of precision,
without and with gradient checkpointing. Tensors that autograd saved, at 64 x 64 latents and random
weights."""
LACKS = {
    **UNSUPPORTED,
    "distilled_guidance": UNDISTILLED,
    "emphasis": "its text encoder reads prompts as they are",
}
TURBO_SHIFT = 3.0
"""Of the noise schedule of Z-Image-Turbo, whose transformer has Z-Image's shapes."""
RECIPE = {
    "steps": 10_000,
    "learning_rate": 2e-5,
    "prompt_dropout": 0.1,
    "timestep_density": "uniform",
}
"""How the first published ControlNet was trained: its model card, and VideoX-Fun's script (in
batches of 64)."""
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    # 9 points of time in its model card, of which the last is the image itself.
    TURBO: {"steps": 8, "guidance_scale": 1.0, "train": RECIPE},
    # Scale 4 in diffusers, which counts from 0 where others count from 1.
    PLAIN: {"steps": 50, "guidance_scale": 5.0, "train": RECIPE},
}


def most_layers(base: Base) -> int:
    """All of them."""
    return len(base.denoiser.layers)


def activation_bytes(transformer: ZImageTransformer2DModel, checkpointing: bool) -> float:
    """As ACTIVATION_BYTES, for the layers of this transformer and a fifth of a ControlNet."""
    config = transformer.config
    layers = 1.2 * config.n_layers + config.n_refiner_layers
    return ACTIVATION_BYTES[checkpointing] * layers * config.dim / PATCH_SIZE**2


ZIMAGE = Family(
    name=PLAIN,
    part=PART,
    latents=KLLatents(),
    prompts=ZImagePrompts(),
    layout=LAYOUT,
    repeated_blocks=("ZImageTransformerBlock", "ZImageControlTransformerBlock"),
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
    unsupported=LACKS,
    most_layers=most_layers,
    read_lora=partial(read_lora, NAMES),
    read_embedding=refuse("textual inversion", PLAIN, "--embedding"),
    add_embedding=refuse("textual inversion", PLAIN, "--embedding"),
)


def recognise(location: Location) -> Family | None:
    """The family of a base with Z-Image's transformer, by its configs; None for another's.

    CnctlError for a file that nothing completes, and for one that reads patches of another size.
    """
    folder = FILES.find_folder(location)
    if folder is None:
        return None
    config = read_config(folder)
    _check_reads_latents(location.name, config)
    name = shape_of(config).name
    if name == PLAIN and _shift(folder) == TURBO_SHIFT:
        name = TURBO
    return replace(
        ZIMAGE,
        name=name,
        completed_by=completed_by(location, folder),
        defaults={"scheduler": SCHEDULER, **DEFAULTS.get(name, {"train": RECIPE})},
        controlnets=CONTROLNETS.get(name, {}),
    )


def _check_reads_latents(name: str, config: Mapping[str, Any]) -> None:
    known = with_defaults(config)
    patches = list(known["all_patch_size"]), list(known["all_f_patch_size"])
    if patches != ([PATCH_SIZE], [1]) or config.get("siglip_feat_dim") is not None:
        raise CnctlError(
            f"{name} is a variant of Z-Image that reads other images or patches",
            hint="give Z-Image or Z-Image-Turbo",
        )


def _shift(path: Path) -> float | None:
    """Of the base's noise schedule; None where none is there."""
    config = path / "scheduler" / "scheduler_config.json"
    return read_json(config).get("shift") if config.is_file() else None
