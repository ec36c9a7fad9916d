"""What LoRAs call the layers of a base with a U-Net: diffusers' names and the original's."""

from __future__ import annotations

from cnctl.models.lora import LoraNames, Place, Shapes, flatten
from cnctl.models.unet.checkpoint.architecture import read_encoder
from cnctl.models.unet.checkpoint.keymap import decoder_names, pairs

PARTS = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "base_model.model.": "unet",
    "diffusion_model.": "unet",
    "unet.": "unet",
}


def original_places(shapes: Shapes) -> dict[str, Place]:
    """Of the original's names, with underlines alone."""
    encoder = read_encoder(shapes)
    named = [(pair.diffusers, pair.original) for pair in pairs(encoder)]
    return {
        flatten(theirs.removesuffix(".weight")): Place((ours,))
        for ours, theirs in (*named, *decoder_names(encoder))
        if ours.endswith(".weight") and len(shapes.get(ours, ())) > 1
    }


NAMES = LoraNames(parts=PARTS, denoiser="unet", other_places=original_places)
