"""The files of ControlNets for Z-Image. Needs no torch before a network is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnctl.models.transformer.format import ControlNetFormat
from cnctl.models.transformer.layout import build_layout
from cnctl.models.transformer.source import Source
from cnctl.models.zimage.architecture import expected_shapes, read_architecture
from cnctl.models.zimage.config import complete_config, config_from_shapes
from cnctl.models.zimage.shape import PATCH_SIZE, check_same_shape, shape_of

if TYPE_CHECKING:
    import torch


def load_class() -> type:
    """`ZImageControlNet`; imports torch."""
    from cnctl.models.zimage.controlnet import ZImageControlNet

    return ZImageControlNet


def respond(network: Any, random: torch.Generator) -> list[torch.Tensor]:
    """What its layers make of random tokens of hint and image, at random modulation."""
    import torch

    width = network.config.dim
    hint = network.control_all_x_embedder[f"{PATCH_SIZE}-1"](
        torch.randn(1, 8, network.config.control_in_dim * PATCH_SIZE**2, generator=random)
    )
    image = torch.randn(1, 8, width, generator=random)
    angles = torch.rand(1, 8, width // network.config.n_heads // 2, generator=random)
    given = (None, torch.polar(torch.ones_like(angles), angles))
    modulation = torch.randn(1, min(width, 256), generator=random)
    found = []
    for layers in (network.control_noise_refiner or (), network.control_layers):
        tokens = hint
        for layer in layers:
            connected = hasattr(layer, "after_proj")
            tokens = layer(tokens, *((image,) if connected else ()), *given, modulation)
        found += [tokens]
    return found


def summarise(source: Source) -> str:
    """Layers, and what they read: this tells the published versions apart."""
    a = source.architecture
    refiner = f" and {a.refiner_layers} of a refiner" if a.refiner_layers else ""
    adds = " that adds to the base's" if a.connected and refiner else ""
    return f"{a.layers} layers{refiner}{adds}, hints of {a.hint_channels} latent channels"


FORMAT = ControlNetFormat(
    family="Z-Image",
    forms=(),
    read_architecture=read_architecture,
    expected_shapes=expected_shapes,
    config_from_shapes=config_from_shapes,
    complete_config=complete_config,
    name_family=lambda config: shape_of(config).name,
    check_same_shape=check_same_shape,
    load_class=load_class,
    respond=respond,
    condition_of=lambda path: "",
    summarise=summarise,
)
LAYOUT = build_layout(FORMAT)
