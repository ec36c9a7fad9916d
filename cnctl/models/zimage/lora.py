"""What LoRAs for Z-Image call its layers: diffusers' names, and the original's."""

from __future__ import annotations

from cnctl.models.transformer.lora import build_names

LAYER = {
    "attention.qkv": ("attention.to_q", "attention.to_k", "attention.to_v"),
    "attention.q_norm": ("attention.norm_q",),
    "attention.k_norm": ("attention.norm_k",),
    "attention.out": ("attention.to_out.0",),
}
NAMES = build_names(
    {},
    {(blocks, blocks): LAYER for blocks in ("layers", "noise_refiner", "context_refiner")},
    alone={
        "x_embedder": ("all_x_embedder.2-1",),
        "final_layer.linear": ("all_final_layer.2-1.linear",),
        "final_layer.adaLN_modulation.1": ("all_final_layer.2-1.adaLN_modulation.1",),
    },
)
