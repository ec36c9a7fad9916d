"""The files of blockwise ControlNets for Qwen-Image. Needs no torch before shapes are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnctl.models.qwen.format import FORMAT as OF_COPIES
from cnctl.models.qwen.shape import NAME, check_same_blocks, name_by_width
from cnctl.models.transformer.format import Config, Form, Shapes
from cnctl.models.transformer.shapes import (
    check_config,
    count_layers,
    shape_of_tensor,
    shapes_of_class,
)
from cnctl.models.transformer.source import Source

if TYPE_CHECKING:
    import torch

CLASS = "QwenBlockwiseControlNet"
CHANNELS = 64
"""Of packed latents."""


def is_blockwise(names: Iterable[str]) -> bool:
    """Whether these are names of a blockwise ControlNet's tensors."""
    return any(name.endswith("controlnet_blocks.0.y_rms.weight") for name in names)


def read_architecture(shapes: Shapes) -> Config:
    """What the shapes say: all of the config."""
    width, channels = shape_of_tensor(shapes, "img_in.weight", 2)
    return {
        "extra_condition_channels": channels - CHANNELS,
        "in_channels": CHANNELS,
        "inner_dim": width,
        "num_layers": count_layers(shapes, "controlnet_blocks"),
    }


def expected_shapes(architecture: Config) -> Shapes:
    """Every tensor that such a ControlNet has."""
    return shapes_of_class(load_class(), architecture)


def config_from_shapes(architecture: Config) -> Config:
    """The config of a file that carries none."""
    return architecture | {"_class_name": CLASS}


def complete_config(config: Mapping[str, Any], architecture: Config) -> Config:
    """What `QwenBlockwiseControlNet` is built from; CnctlError where it is another's."""
    check_config(config, architecture, kind=CLASS)
    return config_from_shapes(architecture)


def load_class() -> type:
    """`QwenBlockwiseControlNet`; imports torch."""
    from cnctl.models.qwen.blockwise import QwenBlockwiseControlNet

    return QwenBlockwiseControlNet


def respond(network: Any, random: torch.Generator) -> list[torch.Tensor]:
    """What each block makes of random tokens and a random hint."""
    import torch

    width, channels = network.config.inner_dim, network.img_in.in_features
    hint = network.img_in(torch.randn(1, 16, channels, generator=random))
    tokens = torch.randn(1, 16, width, generator=random)
    return [block(tokens, hint) for block in network.controlnet_blocks]


def summarise(source: Source) -> str:
    """Its blocks."""
    return f"one block after each of {source.architecture['num_layers']} of the base"


FORMAT = replace(
    OF_COPIES,
    family=f"{NAME} (blockwise)",
    copied=False,
    own_form=Form(name="diffsynth", label="DiffSynth", holds=is_blockwise),
    read_architecture=read_architecture,
    expected_shapes=expected_shapes,
    config_from_shapes=config_from_shapes,
    complete_config=complete_config,
    name_family=name_by_width,
    check_same_shape=check_same_blocks,
    load_class=load_class,
    respond=respond,
    summarise=summarise,
)
