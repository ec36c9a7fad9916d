"""Control-LoRA: the trainable copy as low-rank changes to the base's own weights, by peft."""

from __future__ import annotations

import re
from math import prod

import torch
from diffusers import ControlNetModel
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

NAME = "default"
OWN = "controlnet_"
"""How the parts begin that no base has: hint encoder and zero convolutions."""


def add_adapters(controlnet: ControlNetModel, *, rank: int, seed: int) -> None:
    """Lock a fresh ControlNet's copy, and give each of its weights two factors that learn.

    Their product starts at zero. Hint encoder, zero convolutions, and weights that two factors
    would not make smaller, are trained in full. Other biases and norms stay as the base's.
    """
    layers = {
        name: module
        for name, module in controlnet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and not name.startswith(OWN)
    }
    adapted = [name for name, layer in layers.items() if _is_smaller(layer.weight, rank)]
    controlnet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules="|".join(map(re.escape, adapted)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, controlnet, adapter_name=NAME)
    for name in layers.keys() - set(adapted):
        controlnet.get_submodule(name).requires_grad_(True)
    for name, parameter in controlnet.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or name.startswith(OWN))


def low_rank_state(controlnet: ControlNetModel) -> dict[str, Tensor]:
    """What has been trained: whole tensors by name, and `up` and `down` for an adapted `.weight`.

    up (out, rank) or (out, rank, 1, 1), down (rank, in) or (rank, in, h, w); their product is
    what is added to the base's weight.
    """
    trained = {}
    for name, module in controlnet.named_modules():
        if isinstance(module, LoraLayer):
            up, down = module.lora_B[NAME].weight, module.lora_A[NAME].weight
            trained[f"{name}.up"] = up.detach() * module.scaling[NAME]
            trained[f"{name}.down"] = down.detach()
    for name, parameter in controlnet.named_parameters():
        if parameter.requires_grad and f".{NAME}." not in name:
            trained[name] = parameter.detach()
    return trained


def _is_smaller(weight: Tensor, rank: int) -> bool:
    return rank * (weight.shape[0] + prod(weight.shape[1:])) < weight.numel()
