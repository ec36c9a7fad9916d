"""Control-LoRA: the trainable copy as low-rank changes to the base's own weights, by peft."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from cnctl.errors import CnctlError

NAME = "default"


def add_adapters(
    controlnet: nn.Module, *, is_own: Callable[[str], bool], rank: int, seed: int
) -> None:
    """Lock a fresh ControlNet's copy, and give each of its weights two factors that learn.

    Their product starts at zero. What no base has, and weights that two factors would not make
    smaller, are trained in full. Other biases and norms stay as the base's.
    is_own(name): whether no base has a parameter: those that read the hint, and the zero layers.
    """
    own = {name for name, _ in controlnet.named_parameters() if is_own(name)}
    layers = {
        name: module
        for name, module in controlnet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and f"{name}.weight" not in own
    }
    adapted = [name for name, layer in layers.items() if _is_smaller(layer.weight, rank)]
    if not adapted:
        raise CnctlError(
            f"no weight of this ControlNet is larger than two factors of rank {rank}",
            hint="give --lora a smaller rank, or leave it out",
        )
    controlnet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules="|".join(map(re.escape, adapted)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, controlnet, adapter_name=NAME)
    for name in layers.keys() - set(adapted):
        controlnet.get_submodule(name).requires_grad_(True)
    for name, parameter in controlnet.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or name in own)


def has_adapters(controlnet: nn.Module) -> bool:
    """Whether `add_adapters` has changed it."""
    return hasattr(controlnet, "peft_config")


def low_rank_state(controlnet: nn.Module) -> dict[str, Tensor]:
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
