"""XLabs' own names for the tensors of its ControlNets for FLUX.1, which are those of the original.

Queries, keys and values are one tensor there, in this order (diffusers'
`convert_flux_transformer_checkpoint_to_diffusers`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cnctl.models.transformer.format import Config, Form

FUSED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
OF_BLOCK = {
    "img_attn.norm.query_norm.scale": "attn.norm_q.weight",
    "img_attn.norm.key_norm.scale": "attn.norm_k.weight",
    "txt_attn.norm.query_norm.scale": "attn.norm_added_q.weight",
    "txt_attn.norm.key_norm.scale": "attn.norm_added_k.weight",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
EMBEDDERS = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "pos_embed_input": "controlnet_x_embedder",
    **{
        f"{old}.{layer}": f"time_text_embed.{new}.{number}"
        for old, new in (
            ("time_in", "timestep_embedder"),
            ("vector_in", "text_embedder"),
            ("guidance_in", "guidance_embedder"),
        )
        for layer, number in (("in_layer", "linear_1"), ("out_layer", "linear_2"))
    },
    "input_hint_block.0": "input_hint_block.conv_in",
    **{f"input_hint_block.{2 * i + 2}": f"input_hint_block.blocks.{i}" for i in range(6)},
    "input_hint_block.14": "input_hint_block.conv_out",
}
BLOCK = "double_blocks"
OWN_OF_BLOCK = {new: old for old, new in OF_BLOCK.items()}
OWN_OF_BLOCK |= {new: old for old, news in FUSED.items() for new in news}
OWN_EMBEDDERS = {new: old for old, new in EMBEDDERS.items()}


def is_xlabs(names: Iterable[str]) -> bool:
    """Whether these are XLabs' names."""
    return any(name.startswith(BLOCK) for name in names)


def diffusers_names(name: str) -> list[str]:
    """What diffusers calls this tensor, or each third of it."""
    if match := re.fullmatch(rf"{BLOCK}\.(\d+)\.(.+)", name):
        stem, own = f"transformer_blocks.{match[1]}.", match[2]
        if own in OF_BLOCK:
            return [stem + OF_BLOCK[own]]
        layer, _, end = own.rpartition(".")
        return [f"{stem}{new}.{end}" for new in FUSED.get(layer, (OF_BLOCK.get(layer, layer),))]
    layer, _, end = name.rpartition(".")
    return [f"{EMBEDDERS.get(layer, layer)}.{end}"]


def xlabs_name(name: str) -> str:
    """What XLabs calls a tensor of diffusers, or the tensor that it is a third of."""
    if match := re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", name):
        stem, own = f"{BLOCK}.{match[1]}.", match[2]
        if own in OWN_OF_BLOCK:
            return stem + OWN_OF_BLOCK[own]
        layer, _, end = own.rpartition(".")
        return f"{stem}{OWN_OF_BLOCK.get(layer, layer)}.{end}"
    layer, _, end = name.rpartition(".")
    return f"{OWN_EMBEDDERS.get(layer, layer)}.{end}"


def refuses(config: Config) -> str:
    """Why XLabs' form has no names for such a ControlNet; "" where it has."""
    if config["conditioning_embedding_channels"] is None:
        return "reads hints as latents, unknown to XLabs' form"
    return "has blocks of one stream, unknown to XLabs' form" if config["num_single_layers"] else ""


XLABS = Form(
    name="xlabs",
    label="XLabs",
    holds=is_xlabs,
    diffusers_names=diffusers_names,
    own_name=xlabs_name,
    refuses=refuses,
)
