"""The files of ControlNets for Qwen-Image. Needs no torch before shapes are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cnctl.models.qwen import published
from cnctl.models.qwen.shape import check_same_shape, name_family
from cnctl.models.transformer.format import Config, ControlNetFormat, Shapes
from cnctl.models.transformer.masks import ODDITY, check_mask
from cnctl.models.transformer.rotary import rotary_axes
from cnctl.models.transformer.shapes import (
    check_config,
    count_layers,
    shape_of_tensor,
    shapes_of_class,
)
from cnctl.models.transformer.source import Source

if TYPE_CHECKING:
    import torch

OF_MASK = 4
"""Latents of a token, each of which has a mask."""
CLASS = "QwenImageControlNetModel"


def read_architecture(shapes: Shapes) -> Config:
    """What the shapes say of the config."""
    width, channels = shape_of_tensor(shapes, "img_in.weight", 2)
    (head_width,) = shape_of_tensor(shapes, "transformer_blocks.0.attn.norm_q.weight", 1)
    hint_channels = shape_of_tensor(shapes, "controlnet_x_embedder.weight", 2)[1]
    return {
        "attention_head_dim": head_width,
        "extra_condition_channels": hint_channels - channels,
        "in_channels": channels,
        "joint_attention_dim": shape_of_tensor(shapes, "txt_in.weight", 2)[1],
        "num_attention_heads": width // max(1, head_width),
        "num_layers": count_layers(shapes, "transformer_blocks"),
        "out_channels": channels // 4,
        "patch_size": 2,
    }


def expected_shapes(architecture: Config) -> Shapes:
    """Every tensor that such a ControlNet has, by diffusers' name."""
    return shapes_of_class(load_class(), architecture)


def config_from_shapes(architecture: Config) -> Config:
    """The config of a file that carries none."""
    return complete_config({}, architecture)


def complete_config(config: Mapping[str, Any], architecture: Config) -> Config:
    """What `QwenImageControlNetModel` is built from; CnctlError where it is another's."""
    check_config(config, architecture, kind=CLASS, ignored=("out_channels", "patch_size"))
    axes = rotary_axes(config, architecture["attention_head_dim"])
    return architecture | {"axes_dims_rope": axes, "_class_name": CLASS}


def check_hints(source: Source, *, masked: bool, **_: Any) -> None:
    """Raise CnctlError where the ControlNet reads a mask, and hints carry none."""
    extra = source.architecture["extra_condition_channels"]
    check_mask(source, extra, of_mask=OF_MASK, masked=masked)


def load_class() -> type:
    """`QwenControlNet`; imports torch."""
    from cnctl.models.qwen.controlnet import QwenControlNet

    return QwenControlNet


def load_builder() -> Callable[..., Any]:
    """`build_controlnet`; imports torch."""
    from cnctl.models.qwen.controlnet import build_controlnet

    return build_controlnet


def load_files() -> Any:
    """`FILES`; imports torch."""
    from cnctl.models.qwen.files import FILES

    return FILES


def respond(network: Any, random: torch.Generator) -> list[torch.Tensor]:
    """The residuals of random latents, text and hint."""
    import torch

    config, hint_channels = network.config, network.controlnet_x_embedder.in_features
    return network(
        torch.randn(1, 16, config.in_channels, generator=random),
        torch.randn(1, 16, hint_channels, generator=random),
        encoder_hidden_states=torch.randn(1, 8, config.joint_attention_dim, generator=random),
        timestep=torch.tensor([0.5]),
        img_shapes=[(1, 4, 4)],
        return_dict=False,
    )


def summarise(source: Source) -> str:
    """Its layers."""
    return f"layers: {source.architecture['num_layers']}"


def list_oddities(source: Source) -> list[str]:
    """That it reads a mask, where it does."""
    if not source.architecture["extra_condition_channels"]:
        return []
    return [ODDITY]


FORMAT = ControlNetFormat(
    family="Qwen-Image",
    forms=(),
    read_architecture=read_architecture,
    expected_shapes=expected_shapes,
    config_from_shapes=config_from_shapes,
    complete_config=complete_config,
    name_family=name_family,
    check_same_shape=check_same_shape,
    check_hints=check_hints,
    load_class=load_class,
    load_builder=load_builder,
    load_files=load_files,
    hint_layer="controlnet_x_embedder",
    respond=respond,
    condition_of=published.condition_of,
    summarise=summarise,
    list_oddities=list_oddities,
)
