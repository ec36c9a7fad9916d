"""Names of LoRA layers in bases of true size: kohya's own names, written down by hand."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from cnctl.errors import CnctlError
from cnctl.models.lora import read_lora
from cnctl.models.unet.checkpoint.lora import NAMES as OF_UNETS

SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD15 = {"cross_attention_dim": 768}
NAMES = {
    "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
    "input_blocks_4_0_skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
    "input_blocks_4_1_transformer_blocks_0_attn1_to_k": (
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k"
    ),
    "input_blocks_8_1_transformer_blocks_9_ff_net_2": (
        "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.2"
    ),
    "middle_block_1_proj_in": "mid_block.attentions.0.proj_in",
    "output_blocks_0_0_in_layers_2": "up_blocks.0.resnets.0.conv1",
    "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
    "output_blocks_5_1_transformer_blocks_1_attn2_to_out_0": (
        "up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_out.0"
    ),
    "output_blocks_8_0_emb_layers_1": "up_blocks.2.resnets.2.time_emb_proj",
    "time_embed_0": "time_embedding.linear_1",
    "label_emb_0_0": "add_embedding.linear_1",
    "out_2": "conv_out",
}
"""Stability's names in SDXL, with underlines, and diffusers'."""


def shapes_of(config: dict) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    return {name: tuple(weight.shape) for name, weight in unet.named_parameters()}


def write(path: Path, layers: dict[str, tuple[int, ...]]) -> Path:
    """A LoRA of rank 1 for weights of these shapes; its alphas, and so its scales, count them."""
    tensors = {}
    for number, (name, (out, inner, *kernel)) in enumerate(layers.items()):
        tensors[f"{name}.alpha"] = torch.tensor(float(number))
        tensors[f"{name}.lora_down.weight"] = torch.zeros(1, inner, *kernel)
        tensors[f"{name}.lora_up.weight"] = torch.zeros(out, 1, *(1 for _ in kernel))
    save_file(tensors, path)
    return path


def test_stabilitys_names_mean_these_layers(tmp_path: Path) -> None:
    shapes = shapes_of(SDXL)
    named = {f"lora_unet_{theirs}": shapes[f"{ours}.weight"] for theirs, ours in NAMES.items()}
    found = read_lora(OF_UNETS, write(tmp_path / "xl.safetensors", named), {"unet": shapes})
    by_number = {layer.scale: layer.weight for layer in found}
    assert by_number == {i: f"{ours}.weight" for i, ours in enumerate(NAMES.values())}


@pytest.mark.parametrize("config", [SD15, SDXL], ids=["SD 1.x", "SDXL"])
def test_every_layer_has_a_name_of_its_own(tmp_path: Path, config: dict) -> None:
    shapes = shapes_of(config)
    wanted = [name for name, shape in shapes.items() if len(shape) > 1]
    named = {
        "lora_unet_" + name.removesuffix(".weight").replace(".", "_"): shapes[name]
        for name in wanted
    }
    assert len(named) == len(wanted)
    found = read_lora(OF_UNETS, write(tmp_path / "all.safetensors", named), {"unet": shapes})
    assert {layer.scale: layer.weight for layer in found} == dict(enumerate(wanted))


def test_a_lora_for_another_family_is_refused(tmp_path: Path) -> None:
    """Both families have this layer, but other texts."""
    place = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    shape = shapes_of(SD15)[f"{place}.weight"]
    path = write(tmp_path / "a.safetensors", {f"lora_unet_{place.replace('.', '_')}": shape})
    with pytest.raises(CnctlError, match=r"the weight is \[640, 2048\]") as caught:
        read_lora(OF_UNETS, path, {"unet": shapes_of(SDXL)})
    assert "for this family of bases" in caught.value.hint
