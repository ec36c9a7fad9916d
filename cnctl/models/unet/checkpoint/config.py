"""The config.json of a ControlNet: what its shapes say, and where the rest comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint.architecture import Architecture, Union
from cnctl.models.unet.known import KnownFamily, find_known

Config = dict[str, Any]

SDXL_SIZES_WIDTH = 256
"""Channels that SDXL embeds each of its six numbers (sizes and crops) with."""


# What all families share and no shape determines; the rest comes from the architecture.
COMMON: Config = {
    "_class_name": "ControlNetModel",
    "act_fn": "silu",
    "addition_embed_type_num_heads": 64,
    "class_embed_type": None,
    "controlnet_conditioning_channel_order": "rgb",
    "downsample_padding": 1,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "global_pool_conditions": False,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "upcast_attention": False,
}

ALLOWED = frozenset(COMMON) - {"_class_name"} | {
    "addition_embed_type",
    "addition_time_embed_dim",
    "attention_head_dim",
    "block_out_channels",
    "conditioning_channels",
    "conditioning_embedding_out_channels",
    "cross_attention_dim",
    "down_block_types",
    "in_channels",
    "layers_per_block",
    "mid_block_type",
    "projection_class_embeddings_input_dim",
    "transformer_layers_per_block",
    "use_linear_projection",
}
"""Keys that reach `ControlNetModel`; a stranger's config.json can set nothing else."""
UNION_HEADS = "num_trans_head"
ALLOWED_IN_UNION = ALLOWED - {"mid_block_type"} | {
    "num_control_type",
    "num_proj_channel",
    "num_trans_channel",
    UNION_HEADS,
    "num_trans_layer",
}
"""The same for `ControlNetUnionModel`."""


_OF_ATTENTION = ("cross_attention_dim", "use_linear_projection")
"""Fields that cannot be read from the shapes of a ControlNet without attention."""


class UnknownHeadsError(CnctlError):
    """The number of attention heads is unknown."""


def find_family(architecture: Architecture) -> KnownFamily | None:
    """The known family of a ControlNet or U-Net of this architecture."""
    a = architecture
    return find_known(a.widths, a.text_width, layers=a.layers, label_width=a.label_width)


def known_heads(architecture: Architecture) -> KnownFamily:
    """The family that determines the attention heads; UnknownHeadsError where none is known."""
    if family := find_family(architecture):
        return family
    raise UnknownHeadsError(
        f"the number of attention heads is not in this file, and blocks of "
        f"{list(architecture.widths)} channels do not determine it",
        hint="give the config.json of the same ControlNet or base with --config FILE",
    )


def config_from_shapes(architecture: Architecture) -> Config:
    """The config of a file without one; UnknownHeadsError where its heads are unknown."""
    family = known_heads(architecture)
    heads = list(family.heads) if isinstance(family.heads, tuple) else family.heads
    return (
        COMMON
        | {"cross_attention_dim": family.text_width, "use_linear_projection": family.linear}
        | {"upcast_attention": family.upcast, "norm_num_groups": family.groups}
        | _from_shapes(architecture)
        | {"attention_head_dim": heads, "_class_name": _class_names(architecture)[0]}
    )


def check_config(config: Mapping[str, Any], architecture: Architecture) -> None:
    """Check a config against its weights; CnctlError names the first field that differs."""
    if config.get("_class_name", "ControlNetModel") not in _class_names(architecture):
        raise CnctlError(
            f"the config is that of a {config['_class_name']}, not of a ControlNetModel",
            hint="cnctl reads ControlNets for Stable Diffusion 1.x, 2.x and XL",
        )
    for name, value in _from_shapes(architecture).items():
        if name in config and not _agree(name, config[name], value, architecture):
            raise _disagree(name, config[name], value)
    heads = config.get("num_attention_heads") or config.get("attention_head_dim", 8)
    per_block = heads if isinstance(heads, list | tuple) else [heads] * len(architecture.widths)
    fits = len(per_block) == len(architecture.widths) and all(
        type(n) is int and n > 0 and width % n == 0
        for n, width in zip(per_block, architecture.widths, strict=False)
    )
    if not fits:
        raise CnctlError(
            f"the config asks for {heads} attention heads, which do not divide the blocks' "
            f"{list(architecture.widths)} channels",
            hint="the config belongs to another ControlNet",
        )
    if architecture.union:
        _check_union(config, architecture)


def _check_union(config: Mapping[str, Any], architecture: Architecture) -> None:
    heads = config.get(UNION_HEADS, 8)
    if not architecture.middle_depth or not architecture.label_width:
        raise CnctlError(
            "a ControlNet-Union without attention in its middle, or without sizes",
            hint="cnctl reads unions for SDXL, as xinsir's",
        )
    width = architecture.widths[0]
    if type(heads) is not int or heads < 1 or width % heads:
        raise CnctlError(
            f"the config asks for {UNION_HEADS} = {heads}, which does not divide {width}",
            hint="the config belongs to another ControlNet",
        )


def complete_config(config: Mapping[str, Any], architecture: Architecture) -> Config:
    """What `ControlNetModel` is built from: allowed keys only, gaps filled from the shapes."""
    allowed = ALLOWED_IN_UNION if architecture.union else ALLOWED
    known = {name: value for name, value in config.items() if name in allowed}
    return _from_shapes(architecture) | known


def fill_config(config: Mapping[str, Any], architecture: Architecture) -> Config:
    """The config for these weights after another's: the user's `--config`, or that of the base.

    CnctlError where its blocks are others; what it says of hints is passed over.
    """
    known = _from_shapes(architecture)
    check_blocks(config, architecture)
    hidden = COMMON.keys() | {"attention_head_dim", "addition_time_embed_dim"}
    taken = {name: value for name, value in config.items() if name in hidden}
    return (
        COMMON
        | {key: config[key] for key in _OF_ATTENTION if key in config}
        | known
        | taken
        | {"_class_name": _class_names(architecture)[0]}
    )


def check_blocks(config: Mapping[str, Any], architecture: Architecture) -> None:
    """CnctlError where a config is that of a network with other blocks."""
    known = _from_shapes(architecture)
    for name in ("block_out_channels", "layers_per_block"):
        if name in config and not _agree(name, config[name], known[name], architecture):
            raise _disagree(name, config[name], known[name])


def _class_names(architecture: Architecture) -> tuple[str, ...]:
    """What diffusers calls the class, first, and what published configs do."""
    if architecture.union:
        return "ControlNetUnionModel", "ControlNetModel_Union", "ControlNetModel"
    return ("ControlNetModel",)


def _from_shapes(a: Architecture) -> Config:
    # Where a block has no attention its number is free; the last one is also the middle block's.
    depths = [depth or 1 for depth in (*a.depths[:-1], a.depths[-1] or a.middle_depth)]
    middle = "UNetMidBlock2DCrossAttn" if a.middle_depth else "UNetMidBlock2D"
    attention = {"cross_attention_dim": a.text_width, "use_linear_projection": a.linear}
    own = _union(a.union, a.widths[0]) if a.union else {"mid_block_type": middle}
    return (
        (attention if a.text_width else {})
        | {
            "addition_embed_type": "text_time" if a.label_width else None,
            "addition_time_embed_dim": SDXL_SIZES_WIDTH if a.label_width else None,
            "block_out_channels": list(a.widths),
            "conditioning_channels": a.hint_channels,
            "conditioning_embedding_out_channels": list(a.hint_widths),
            "down_block_types": [
                "CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in a.depths
            ],
            "in_channels": a.in_channels,
            "layers_per_block": a.layers,
            "projection_class_embeddings_input_dim": a.label_width or None,
            "transformer_layers_per_block": depths[0] if len(set(depths)) == 1 else depths,
        }
        | own
    )


def _union(union: Union, width: int) -> Config:
    return {
        "addition_time_embed_dim": union.kind_width,
        "num_control_type": union.kinds,
        "num_proj_channel": width,
        "num_trans_channel": width,
        "num_trans_layer": union.layers,
    }


def _agree(name: str, given: Any, value: Any, a: Architecture) -> bool:
    if name == "conditioning_embedding_out_channels" and a.hint_encoder != "released":
        return True  # that form's widths are fixed; the field speaks of the released form
    if name == "addition_time_embed_dim" and not a.union:
        return bool(a.label_width) == isinstance(given, int)  # no shape determines it
    given = list(given) if isinstance(given, list | tuple) else given
    if name != "transformer_layers_per_block":
        return bool(given == value)
    wanted, *lists = (n if isinstance(n, list) else [n] * len(a.depths) for n in (value, given))
    wanted_attention = [*map(bool, a.depths[:-1]), bool(a.depths[-1] or a.middle_depth)]
    return len(lists[0]) == len(wanted) and all(
        one == other or not there
        for one, other, there in zip(wanted, lists[0], wanted_attention, strict=True)
    )


def _disagree(name: str, given: Any, value: Any) -> CnctlError:
    return CnctlError(
        f"the config says {name} = {given}, the weights say {value}",
        hint="the config belongs to another ControlNet",
    )
