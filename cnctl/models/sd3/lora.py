"""What LoRAs for SD3 call its layers: diffusers' names, and Stability's."""

from __future__ import annotations

from dataclasses import replace

from cnctl.models.lora import Place, Shapes
from cnctl.models.transformer.lora import build_names

BLOCK = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn.ln_q": ("attn.norm_q",),
    "x_block.attn.ln_k": ("attn.norm_k",),
    "x_block.attn.proj": ("attn.to_out.0",),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "x_block.attn2.ln_q": ("attn2.norm_q",),
    "x_block.attn2.ln_k": ("attn2.norm_k",),
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "x_block.adaLN_modulation.1": ("norm1.linear",),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "context_block.attn.ln_q": ("attn.norm_added_q",),
    "context_block.attn.ln_k": ("attn.norm_added_k",),
    "context_block.attn.proj": ("attn.to_add_out",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
}
ALONE = {
    "x_embedder.proj": ("pos_embed.proj",),
    "t_embedder.mlp.0": ("time_text_embed.timestep_embedder.linear_1",),
    "t_embedder.mlp.2": ("time_text_embed.timestep_embedder.linear_2",),
    "y_embedder.mlp.0": ("time_text_embed.text_embedder.linear_1",),
    "y_embedder.mlp.2": ("time_text_embed.text_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
}
_NAMES = build_names(
    {
        "lora_te1_": "text_encoder",
        "text_encoders.clip_l.transformer.": "text_encoder",
        "lora_te2_": "text_encoder_2",
        "text_encoders.clip_g.transformer.": "text_encoder_2",
        "lora_te3_": "text_encoder_3",
        "text_encoders.t5xxl.transformer.": "text_encoder_3",
    },
    {("joint_blocks", "transformer_blocks"): BLOCK},
    alone=ALONE,
    swapped={"final_layer.adaLN_modulation.1": ("norm_out.linear",)},
)


def places(shapes: Shapes) -> dict[str, Place]:
    """The last block's text has no more than scale and shift, in the other order."""
    found = dict(_NAMES.other_places(shapes))
    for name, place in found.items():
        [*_, weight] = place.weights
        if weight.endswith("norm1_context.linear.weight"):
            rows, width = shapes[weight]
            found[name] = replace(place, swapped=rows == 2 * width)
    return found


NAMES = replace(_NAMES, other_places=places)
