"""The files of ControlNets for SD3. Needs no torch before a network is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cnctl.models.sd3 import published
from cnctl.models.sd3.architecture import COMPUTED, POSITIONS, expected_shapes, read_architecture
from cnctl.models.sd3.config import Config, complete_config, config_from_shapes
from cnctl.models.sd3.original import ORIGINAL
from cnctl.models.sd3.shape import check_same_shape, shape_of
from cnctl.models.transformer.format import ControlNetFormat
from cnctl.models.transformer.layout import build_layout
from cnctl.models.transformer.masks import ODDITY, check_mask
from cnctl.models.transformer.source import Source
from cnctl.tensorfiles.header import Shape

if TYPE_CHECKING:
    import torch


def check_hints(source: Source, *, masked: bool, **_: Any) -> None:
    """Raise CnctlError where the ControlNet reads a mask, and hints carry none."""
    a = source.architecture
    check_mask(source, a.hint_channels - a.latent_channels, of_mask=1, masked=masked)


def computed_shapes(config: Config) -> Mapping[str, Shape]:
    """The shape of its position embedding, where the config says that it has one."""
    names = ("pos_embed_max_size", "num_attention_heads", "attention_head_dim")
    numbers = [value for name in names if isinstance(value := config.get(name), int)]
    if len(numbers) < len(names) or config.get("use_pos_embed") is False:
        return {}
    side, heads, width = numbers
    return {POSITIONS: (1, side**2, heads * width)}


def load_class() -> type:
    """`Sd3ControlNet`; imports torch."""
    from cnctl.models.sd3.controlnet import Sd3ControlNet

    return Sd3ControlNet


def load_builder() -> Callable[..., Any]:
    """`build_controlnet`; imports torch."""
    from cnctl.models.sd3.controlnet import build_controlnet

    return build_controlnet


def load_files() -> Any:
    """`FILES`; imports torch."""
    from cnctl.models.sd3.files import FILES

    return FILES


def respond(network: Any, random: torch.Generator) -> list[torch.Tensor]:
    """The residuals of random latents or tokens, text and hint."""
    import torch

    config = network.config
    side = 4 * config.patch_size
    tokens = (1, 16, config.num_attention_heads * config.attention_head_dim)
    seen = (1, config.in_channels, side, side) if network.pos_embed is not None else tokens
    width, hint_channels = config.joint_attention_dim, network.pos_embed_input.proj.in_channels
    text = torch.randn(1, 77, width, generator=random) if width else None
    [samples] = network(
        torch.randn(seen, generator=random),
        torch.randn(1, hint_channels, side, side, generator=random),
        encoder_hidden_states=text,
        pooled_projections=torch.randn(1, config.pooled_projection_dim, generator=random),
        timestep=torch.tensor([500.0]),
        return_dict=False,
    )
    return list(samples)


def summarise(source: Source) -> str:
    """Layers, and which text they read: the published forms differ in this."""
    return f"{source.architecture.layers} layers that read {_read(source)}"


def list_oddities(source: Source) -> list[str]:
    """That it reads a mask, where it does."""
    a = source.architecture
    if a.hint_channels == a.latent_channels:
        return []
    return [ODDITY]


def _read(source: Source) -> str:
    if not source.architecture.text_width:
        return "the pooled text alone"
    if not source.config:
        return "text"
    config = complete_config(source.config, source.architecture)
    zeros = config["force_zeros_for_pooled_projection"]
    return "text without the pooled text" if zeros else "text and the pooled text"


FORMAT = ControlNetFormat(
    family="SD3",
    forms=(ORIGINAL,),
    read_architecture=read_architecture,
    expected_shapes=expected_shapes,
    config_from_shapes=config_from_shapes,
    complete_config=complete_config,
    name_family=lambda config: shape_of(config).name,
    check_same_shape=check_same_shape,
    check_hints=check_hints,
    load_class=load_class,
    load_builder=load_builder,
    load_files=load_files,
    hint_layer="pos_embed_input.proj",
    respond=respond,
    computed=COMPUTED,
    computed_shapes=computed_shapes,
    condition_of=published.condition_of,
    known_quirk=published.known_quirk,
    hint_bounds=published.hint_bounds,
    summarise=summarise,
    list_oddities=list_oddities,
)
LAYOUT = build_layout(FORMAT)
