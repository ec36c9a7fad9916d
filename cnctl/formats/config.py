"""The config.json of a ControlNet: what its shapes say, and where the rest comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnctl.errors import CnctlError
from cnctl.formats.architecture import Architecture

Config = dict[str, Any]

SD_WIDTHS = (320, 640, 1280, 1280)

# What Stable Diffusion 1.x and 2.x share and no shape tells; the rest comes from the architecture.
COMMON: Config = {
    "_class_name": "ControlNetModel",
    "act_fn": "silu",
    "addition_embed_type": None,
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": None,
    "class_embed_type": None,
    "controlnet_conditioning_channel_order": "rgb",
    "downsample_padding": 1,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "global_pool_conditions": False,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_time_scale_shift": "default",
    "upcast_attention": False,
}

ALLOWED = frozenset(COMMON) - {"_class_name"} | {
    "attention_head_dim",
    "block_out_channels",
    "conditioning_channels",
    "conditioning_embedding_out_channels",
    "cross_attention_dim",
    "down_block_types",
    "in_channels",
    "layers_per_block",
    "transformer_layers_per_block",
    "use_linear_projection",
}
"""Keys that reach `ControlNetModel`; a stranger's config.json can set nothing else."""


class UnknownHeadsError(CnctlError):
    """Nothing tells how many heads the attentions have."""


def family_name(architecture: Architecture) -> str:
    """Stable Diffusion's families by their widths: "SD 1.x", "SD 2.x", else ""."""
    if architecture.widths != SD_WIDTHS:
        return ""
    return {768: "SD 1.x", 1024: "SD 2.x"}.get(architecture.text_width, "")


def config_from_shapes(architecture: Architecture) -> Config:
    """The config of a file that carries none; CnctlError where its number of heads is unknown."""
    heads: dict[str, int | list[int]] = {
        "SD 1.x": 8,
        "SD 2.x": [width // 64 for width in architecture.widths],
    }
    family = family_name(architecture)
    if not family:
        raise UnknownHeadsError(
            f"the number of attention heads is not in this file, and blocks of "
            f"{list(architecture.widths)} channels do not tell it",
            hint="give the config.json of the same ControlNet or base with --config FILE",
        )
    return COMMON | _from_shapes(architecture) | {"attention_head_dim": heads[family]}


def check_config(config: Mapping[str, Any], architecture: Architecture) -> None:
    """Hold a config to the weights beside it; CnctlError names the first field that differs."""
    if config.get("_class_name", "ControlNetModel") != "ControlNetModel":
        raise CnctlError(
            f"the config is that of a {config['_class_name']}, not of a ControlNetModel",
            hint="cnctl reads ControlNets for Stable Diffusion 1.x and 2.x",
        )
    for name, value in _from_shapes(architecture).items():
        if name in config and not _agree(name, config[name], value, architecture):
            raise CnctlError(
                f"the config says {name} = {config[name]}, the weights say {value}",
                hint="the config belongs to another ControlNet",
            )
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


def complete_config(config: Mapping[str, Any], architecture: Architecture) -> Config:
    """What `ControlNetModel` is built from: allowed keys only, gaps filled from the shapes."""
    known = {name: value for name, value in config.items() if name in ALLOWED}
    return _from_shapes(architecture) | known


def read_config(path: Path) -> Config:
    """A config.json as it stands."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CnctlError(f"{path} is not a config.json: {error}", hint="give another") from error
    if not isinstance(config, dict):
        raise CnctlError(f"{path} is not a config.json: no JSON object", hint="give another")
    return config


def heads_from(config: Mapping[str, Any], architecture: Architecture) -> Config:
    """The config for these weights after the user's `--config`: a ControlNet's or its base's."""
    taken = {
        name: value
        for name, value in config.items()
        if name in COMMON or name == "attention_head_dim"
    }
    return COMMON | _from_shapes(architecture) | taken | {"_class_name": "ControlNetModel"}


def _from_shapes(a: Architecture) -> Config:
    # Where a block has no attention its number is free; the last one is also the middle block's.
    depths = [depth or a.middle_depth for depth in a.depths]
    return {
        "block_out_channels": list(a.widths),
        "conditioning_channels": a.hint_channels,
        "conditioning_embedding_out_channels": list(a.hint_widths),
        "cross_attention_dim": a.text_width,
        "down_block_types": [
            "CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in a.depths
        ],
        "in_channels": a.in_channels,
        "layers_per_block": a.layers,
        "transformer_layers_per_block": depths[0] if len(set(depths)) == 1 else depths,
        "use_linear_projection": a.linear,
    }


def _agree(name: str, given: Any, value: Any, a: Architecture) -> bool:
    if name == "conditioning_embedding_out_channels" and a.hint_encoder != "released":
        return True  # that form's widths are fixed; the field speaks of the released form
    given = list(given) if isinstance(given, list | tuple) else given
    if name != "transformer_layers_per_block":
        return bool(given == value)
    wanted, *lists = (n if isinstance(n, list) else [n] * len(a.depths) for n in (value, given))
    wanted_attention = [*map(bool, a.depths[:-1]), True]
    return len(lists[0]) == len(wanted) and all(
        one == other or not there
        for one, other, there in zip(wanted, lists[0], wanted_attention, strict=True)
    )
