"""The config.json of an SD3 ControlNet: what its shapes say, and what no shape says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.sd3.architecture import Architecture
from cnctl.models.sd3.shape import HEAD_WIDTH
from cnctl.models.transformer.source import UndeterminedError

Config = dict[str, Any]

CLASS = "SD3ControlNetModel"
UNDETERMINED: Mapping[str, Any] = {
    "attention_head_dim": 64,
    "force_zeros_for_pooled_projection": True,
    "sample_size": 128,
}
"""Fields that shapes do not show, with what diffusers takes where a config leaves them out."""


def config_from_shapes(a: Architecture) -> Config:
    """The config of a file that carries none; UndeterminedError where shapes leave some open."""
    if a.text_width:
        raise UndeterminedError(
            "no shape says whether this ControlNet was trained with the pooled text and shifted "
            "hints",
            hint="give the folder with its config.json, or --config FILE to cnctl convert and info",
        )
    known = {"attention_head_dim": a.head_width or HEAD_WIDTH}
    # Stability's form, which is the only one that reads no text.
    return complete_config({**known, "force_zeros_for_pooled_projection": False}, a)


def complete_config(config: Mapping[str, Any], a: Architecture) -> Config:
    """What `SD3ControlNetModel` is built from: the shapes' fields, and the undetermined ones.

    CnctlError where the config is another network's.
    """
    if config.get("_class_name", CLASS) != CLASS:
        raise CnctlError(
            f"the config is that of a {config['_class_name']}, not of an {CLASS}",
            hint="give the config.json of this ControlNet",
        )
    undetermined = {name: config.get(name, default) for name, default in UNDETERMINED.items()}
    determined = _from_shapes(a, head_width=_head_width(undetermined["attention_head_dim"], a))
    for name, value in determined.items():
        if name in config and not _agree(name, config[name], value, a):
            raise CnctlError(
                f"the config says {name} = {config[name]}, the weights say {value}",
                hint="the config belongs to another ControlNet",
            )
    return determined | undetermined | {"_class_name": CLASS}


def _from_shapes(a: Architecture, *, head_width: int) -> Config:
    return {
        "caption_projection_dim": a.width,
        "dual_attention_layers": list(a.dual),
        "extra_conditioning_channels": a.hint_channels - a.latent_channels,
        "in_channels": a.latent_channels,
        "joint_attention_dim": a.text_width or None,
        "num_attention_heads": a.width // head_width,
        "num_layers": a.layers,
        "out_channels": a.latent_channels,
        "patch_size": a.patch_size,
        "pooled_projection_dim": a.pooled_width,
        "pos_embed_max_size": a.positions or None,
        "pos_embed_type": "sincos" if a.positions else None,
        "qk_norm": "rms_norm" if a.head_width else None,
        "use_pos_embed": bool(a.positions),
    }


def _head_width(given: Any, a: Architecture) -> int:
    fits = type(given) is int and given > 0 and a.width % given == 0
    if not fits or a.head_width not in (0, given):
        raise CnctlError(
            f"the config says attention_head_dim = {given}, which the weights' {a.width} channels "
            "do not have",
            hint="the config belongs to another ControlNet",
        )
    return int(given)


def _agree(name: str, given: Any, value: Any, a: Architecture) -> bool:
    if name in ("out_channels", "caption_projection_dim"):
        return True  # a ControlNet has no such layer, or none of its own width
    if name in ("pos_embed_max_size", "pos_embed_type") and not a.positions:
        return True  # the base's embedding is used
    if name == "dual_attention_layers":
        # Copied from the base, which has more blocks.
        return sorted(layer for layer in given if layer < a.layers) == value
    return bool(given == value)
