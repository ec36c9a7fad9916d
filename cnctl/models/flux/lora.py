"""What LoRAs for FLUX.1 call its layers: as diffusers, the original and XLabs do."""

from __future__ import annotations

from cnctl.models.flux.xlabs import BLOCK, EMBEDDERS, FUSED, OF_BLOCK
from cnctl.models.transformer.lora import build_names


def _layer(name: str) -> str:
    """Without the tensor's own name, which norms have there."""
    return name.removesuffix(".scale").removesuffix(".weight")


QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
DOUBLE = {
    **FUSED,
    **{_layer(theirs): (_layer(ours),) for theirs, ours in OF_BLOCK.items()},
    "processor.qkv1": FUSED["img_attn.qkv"],
    "processor.qkv2": FUSED["txt_attn.qkv"],
    "processor.proj1": ("attn.to_out.0",),
    "processor.proj2": ("attn.to_add_out",),
}
SINGLE = {
    "linear1": (*QKV, "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
    "modulation.lin": ("norm.linear",),
    "processor.qkv": QKV,
    "processor.proj": ("proj_out",),
}
NAMES = build_names(
    {
        "lora_te1_": "text_encoder",
        "lora_te_": "text_encoder",
        "text_encoders.clip_l.transformer.": "text_encoder",
        "lora_te2_": "text_encoder_2",
        "lora_te3_": "text_encoder_2",
        "text_encoders.t5xxl.transformer.": "text_encoder_2",
    },
    {(BLOCK, "transformer_blocks"): DOUBLE, ("single_blocks", "single_transformer_blocks"): SINGLE},
    alone={theirs: (ours,) for theirs, ours in EMBEDDERS.items()}
    | {"final_layer.linear": ("proj_out",)},
    swapped={"final_layer.adaLN_modulation.1": ("norm_out.linear",)},
)
