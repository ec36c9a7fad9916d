"""The files of ControlNets for FLUX.1. Needs no torch before shapes are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.errors import CnctlError
from cnctl.models.flux import control_lora, published
from cnctl.models.flux.control_lora import find_control_lora
from cnctl.models.flux.shape import check_same_shape, name_family
from cnctl.models.flux.xlabs import XLABS
from cnctl.models.transformer.format import Config, ControlNetFormat, Shapes
from cnctl.models.transformer.layout import build_layout
from cnctl.models.transformer.rotary import rotary_axes
from cnctl.models.transformer.shapes import (
    check_config,
    count_layers,
    shape_of_tensor,
    shapes_of_class,
)
from cnctl.models.transformer.source import Source
from cnctl.models.weights_info import WeightsInfo
from cnctl.tensorfiles.listing import WEIGHTS

if TYPE_CHECKING:
    import torch

    from cnctl.models.conversion import Conversion

CLASS = "FluxControlNetModel"


def read_architecture(shapes: Shapes) -> Config:
    """What the shapes say of the config."""
    width, channels = shape_of_tensor(shapes, "x_embedder.weight", 2)
    double, single = (count_layers(shapes, stem) for stem in ("transformer_blocks", SINGLE))
    first = "transformer_blocks.0" if double else f"{SINGLE}.0"
    (head_width,) = shape_of_tensor(shapes, f"{first}.attn.norm_q.weight", 1)
    modes = shapes.get("controlnet_mode_embedder.weight")
    encoder = shapes.get("input_hint_block.conv_out.weight")
    if encoder and (
        channels % encoder[0] or isqrt(channels // encoder[0]) ** 2 * encoder[0] != channels
    ):
        raise CnctlError(
            f"its hint encoder has {encoder[0]} channels, its tokens {channels}",
            hint="this is not a whole ControlNet",
        )
    return {
        "attention_head_dim": head_width,
        "conditioning_embedding_channels": encoder[0] if encoder else None,
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in shapes,
        "in_channels": channels,
        "joint_attention_dim": shape_of_tensor(shapes, "context_embedder.weight", 2)[1],
        "num_attention_heads": width // max(1, head_width),
        "num_layers": double,
        "num_mode": modes[0] if modes else None,
        "num_single_layers": single,
        "patch_size": isqrt(channels // encoder[0]) if encoder else 1,
        "pooled_projection_dim": shape_of_tensor(
            shapes, "time_text_embed.text_embedder.linear_1.weight", 2
        )[1],
    }


SINGLE = "single_transformer_blocks"


def expected_shapes(architecture: Config) -> Shapes:
    """Every tensor that such a ControlNet has, by diffusers' name."""
    return shapes_of_class(load_class(), architecture)


def config_from_shapes(architecture: Config) -> Config:
    """The config of a file that carries none."""
    return complete_config({}, architecture)


def complete_config(config: Mapping[str, Any], architecture: Config) -> Config:
    """What `FluxControlNetModel` is built from; CnctlError where a config is another network's."""
    check_config(config, architecture, kind=CLASS, ignored=("patch_size",))
    axes = rotary_axes(config, architecture["attention_head_dim"])
    return architecture | {"axes_dims_rope": axes, "_class_name": CLASS}


def check_hints(source: Source, *, condition: str, control_type: int | None, **_: Any) -> None:
    """Raise CnctlError where a union does not know hints of this condition."""
    modes = source.architecture["num_mode"]
    if modes is None:
        return
    if control_type is None or control_type >= modes:
        raise CnctlError(
            f"{source.path} is a union, and nothing says which of its kinds {condition} is",
            hint=f"use a condition of {', '.join(published.MODES)}, or another ControlNet",
        )


def list_assumptions(config: Config, denoiser: Mapping[str, Any]) -> tuple[str, ...]:
    """That it is given a scale of guidance beside a base that reads none."""
    from cnctl.models.flux.controlnet import GUIDANCE

    if not config["guidance_embeds"] or denoiser.get("guidance_embeds"):
        return ()
    return (f"it reads a scale of guidance, and the base has none: {GUIDANCE} is assumed",)


def load_class() -> type:
    """`FluxControlNet`; imports torch."""
    from cnctl.models.flux.controlnet import FluxControlNet

    return FluxControlNet


def load_builder() -> Callable[..., Any]:
    """`build_controlnet`; imports torch."""
    from cnctl.models.flux.controlnet import build_controlnet

    return build_controlnet


def load_files() -> Any:
    """`FILES`; imports torch."""
    from cnctl.models.flux.files import FILES

    return FILES


def respond(network: Any, random: torch.Generator) -> list[torch.Tensor]:
    """The residuals of random latents, text and hint."""
    import torch

    config, encoder = network.config, network.input_hint_block
    tokens = (1, 16, config.in_channels)
    hint = (1, 3, 32 * config.patch_size, 32 * config.patch_size) if encoder else tokens
    double, single = network(
        torch.randn(tokens, generator=random),
        torch.randn(hint, generator=random),
        controlnet_mode=torch.zeros(1, 1, dtype=torch.long) if network.union else None,
        encoder_hidden_states=torch.randn(1, 8, config.joint_attention_dim, generator=random),
        pooled_projections=torch.randn(1, config.pooled_projection_dim, generator=random),
        timestep=torch.tensor([0.5]),
        guidance=torch.tensor([3.5]) if config.guidance_embeds else None,
        img_ids=torch.zeros(16, 3),
        txt_ids=torch.zeros(8, 3),
        return_dict=False,
    )
    return [*(double or ()), *(single or ())]


def summarise(source: Source) -> str:
    """Its blocks, and how it reads hints: the published forms differ in this."""
    own = source.architecture
    kinds = {"two streams": own["num_layers"], "one stream": own["num_single_layers"]}
    blocks = ", ".join(f"blocks of {kind}: {count}" for kind, count in kinds.items() if count)
    reads = "pixels" if own["conditioning_embedding_channels"] else "latents"
    union = f", a union that reads {own['num_mode']} kinds" if own["num_mode"] else ""
    return f"{blocks}, hints read as {reads}{union}"


def list_oddities(source: Source) -> list[str]:
    """The kinds that a union reads, as the published ones count them."""
    if not (kinds := source.architecture["num_mode"]):
        return []
    names = [name for name, kind in published.MODES.items() if kind < kinds]
    return [f"a union: of its kinds of hint the first are {', '.join(names)}, if it is published"]


FORMAT = ControlNetFormat(
    family="FLUX.1",
    forms=(XLABS,),
    read_architecture=read_architecture,
    expected_shapes=expected_shapes,
    config_from_shapes=config_from_shapes,
    complete_config=complete_config,
    name_family=name_family,
    check_same_shape=check_same_shape,
    check_hints=check_hints,
    list_assumptions=list_assumptions,
    load_class=load_class,
    load_builder=load_builder,
    load_files=load_files,
    hint_layer="controlnet_x_embedder",
    residual_layers=("controlnet_blocks", "controlnet_single_blocks"),
    respond=respond,
    condition_of=published.condition_of,
    summarise=summarise,
    list_oddities=list_oddities,
)


def _holds(path: Path) -> bool:
    """A file by itself is recognised by its tensors."""
    in_folder = path.is_dir() or path.name == WEIGHTS
    return in_folder and find_control_lora(path) is not None


def _describe(path: Path, **options: Any) -> WeightsInfo:
    lora = find_control_lora(path)
    return (
        control_lora.describe(lora, **options) if lora else OF_CONTROLNETS.describe(path, **options)
    )


def _load_conversion(path: Path) -> Conversion:
    if find_control_lora(path) is None:
        return OF_CONTROLNETS.load_conversion(path)
    from cnctl.models.flux.control_lora_conversion import build_conversion

    return build_conversion(OF_CONTROLNETS.load_conversion(path))


OF_CONTROLNETS = build_layout(FORMAT)
LAYOUT = replace(OF_CONTROLNETS, holds=_holds, describe=_describe, load_conversion=_load_conversion)
