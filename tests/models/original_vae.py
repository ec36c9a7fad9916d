"""An autoencoder's tensors under the original's names, by rules of our own."""

import re

from torch import Tensor, nn

VAE = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "downsamplers.0.conv": "downsample.conv",
    "upsamplers.0.conv": "upsample.conv",
}


def original_vae(vae: nn.Module, prefix: str = "first_stage_model.") -> dict[str, Tensor]:
    weights = {}
    for name, weight in vae.state_dict().items():
        is_projection = ".attentions." in name and name.endswith("weight") and weight.ndim == 2
        weight = weight[:, :, None, None] if is_projection else weight
        weights[prefix + vae_key(name, 4)] = weight
    return weights


def replace(name: str, rules: dict[str, str]) -> str:
    for ours, theirs in rules.items():
        name = name.replace(ours, theirs)
    return name


def vae_key(name: str, levels: int) -> str:
    name = replace(name, VAE)
    name = re.sub(r"down_blocks\.(\d)", r"down.\1", name).replace(".resnets.", ".block.")
    return re.sub(r"up_blocks\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
