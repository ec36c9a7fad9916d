"""The files of ControlNets for Z-Image. Needs no torch before a network is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cnctl.errors import CnctlError
from cnctl.models.transformer.format import ControlNetFormat
from cnctl.models.transformer.layout import build_layout
from cnctl.models.transformer.source import Source
from cnctl.models.zimage.architecture import expected_shapes, read_architecture
from cnctl.models.zimage.config import base_name, complete_config, config_from_shapes
from cnctl.models.zimage.published import known_quirk
from cnctl.models.zimage.shape import PATCH_SIZE, check_same_shape, shape_of

if TYPE_CHECKING:
    import torch

    from cnctl.tensorfiles.lazy import LazyTensor


def check_tensors(source: Source, tensors: Mapping[str, LazyTensor]) -> None:
    """Raise CnctlError where the refiner reads no hint, as in files of version 2.0.

    diffusers' single_file_utils.py recognises them by this, too.
    """
    into = tensors.get("control_noise_refiner.0.before_proj.weight")
    if into is not None and not into.read().any():
        raise CnctlError(
            f"{source.path} is a ControlNet of version 2.0, whose refiner is not its own",
            hint="give one of version 2.1, or one of 2.0 that diffusers has written",
        )


def load_class() -> type:
    """`ZImageControlNet`; imports torch."""
    from cnctl.models.zimage.controlnet import ZImageControlNet

    return ZImageControlNet


def load_builder() -> Callable[..., Any]:
    """`build_controlnet`; imports torch."""
    from cnctl.models.zimage.controlnet import build_controlnet

    return build_controlnet


def load_files() -> Any:
    """`FILES`; imports torch."""
    from cnctl.models.zimage.files import FILES

    return FILES


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
    """Layers, and what they read: the published versions differ in this."""
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
    base_name=base_name,
    load_builder=load_builder,
    load_files=load_files,
    hint_layer="control_layers.0.before_proj",
    residual_layers=("control_layers",),
    respond=respond,
    check_tensors=check_tensors,
    condition_of=lambda path: "",
    known_quirk=known_quirk,
    summarise=summarise,
)
LAYOUT = build_layout(FORMAT)
