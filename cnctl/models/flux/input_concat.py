"""FLUX.1 with hints as further input channels and a LoRA, as FLUX.1 Canny and Depth are published.

diffusers' `FluxControlPipeline` reads such LoRAs, its `train_control_lora_flux.py` makes them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.configuration_utils import FrozenDict
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn.functional import linear

from cnctl.models.flux.control_lora_tensors import split_name
from cnctl.models.flux.shape import check_same_shape
from cnctl.models.input_concat_network import InputConcatNetwork
from cnctl.models.quantize import dense_weight
from cnctl.models.save import diffusers_config
from cnctl.models.transformer.network import LatentHintNetwork
from cnctl.models.transformer.packing import pack
from cnctl.tensorfiles.lazy import Tensors, ready
from cnctl.tensorfiles.write import write_folder

if TYPE_CHECKING:
    from cnctl.models.base import Base

ADAPTER = "default"
DOWN, UP, UP_BIAS = "lora_A.weight", "lora_B.weight", "lora_B.bias"
LAYERS = (
    "x_embedder",
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0", "to_add_out")),
    *(f"attn.add_{name}_proj" for name in "qkv"),
    *(f"{ff}.net.{layer}" for ff in ("ff", "ff_context") for layer in ("0.proj", "2")),
)
"""Those that diffusers' script adapts, by the ends of their names."""


class FluxInputConcat(InputConcatNetwork, LatentHintNetwork, FluxTransformer2DModel):
    """The base's transformer with a LoRA that reads hints, in place of the base's.

    Its other weights are the base's own tensors: they are locked, and not saved.
    """

    untrainable = "a LoRA that reads hints"

    def check_fits(self, base: Base) -> None:
        """Raise CnctlError where it was made from a base of other shapes."""
        own = dict(self.config) | {"in_channels": self.config.out_channels}
        check_same_shape(own, base.denoiser.config)

    def with_hint(self, hint: Tensor) -> nn.Module:
        """The transformer with the latents of a hint (1 or B, C, h, w)."""
        return HintedTransformer(self, hint)

    def save(
        self,
        target: Path,
        *,
        description: Mapping[str, Any],
        base_update: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a folder whose file `FluxControlPipeline.load_lora_weights` reads."""
        factors = self.own_parameters().items()
        write_folder(
            Path(target),
            {saved_name(name): ready(factor.detach().cpu()) for name, factor in factors},
            config=diffusers_config(self),
            description=lambda: dict(description),
            overwrite=True,
        )


class HintedTransformer(nn.Module):
    """A transformer that reads a hint, with its hint: used as any base's transformer is.

    hint: latents (1 or B, C, h, w); latents may be any multiple of B, as they are where guidance
    doubles a batch.
    """

    def __init__(self, transformer: FluxInputConcat, hint: Tensor) -> None:
        super().__init__()
        self.transformer = transformer
        self.config = FrozenDict(
            transformer.config | {"in_channels": transformer.config.out_channels}
        )
        self.transformer_blocks = transformer.transformer_blocks
        self.single_transformer_blocks = transformer.single_transformer_blocks
        self._hint = pack(hint)

    def forward(self, tokens: Tensor, **given: Any) -> Any:
        """As the transformer's, of packed latents (n B, N, 4 C)."""
        hint = self._hint.to(tokens).repeat(len(tokens) // len(self._hint), 1, 1)
        return self.transformer(torch.cat([tokens, hint], dim=-1), **given)


def build_input_concat(
    transformer: FluxTransformer2DModel, *, rank: int, seed: int = 0
) -> FluxInputConcat:
    """The transformer with a wider first layer, and a fresh LoRA of this rank in float32.

    It shares the transformer's weights. Those of the hint are zero, and so is the LoRA's product:
    until it is trained it predicts what the transformer does.
    """
    wide, device = _widen(transformer), transformer.device
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=[*LAYERS])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, wide, adapter_name=ADAPTER)
    for name, parameter in wide.named_parameters():
        if f".{ADAPTER}." in name:
            parameter.data = parameter.data.to(device, torch.float32)
    wide.__class__ = FluxInputConcat
    return wide


def open_input_concat(
    transformer: FluxTransformer2DModel, tensors: Tensors, *, dtype: torch.dtype
) -> FluxInputConcat:
    """The transformer with a wider first layer and a trained LoRA; it shares the other weights.

    tensors: as `control_lora_tensors.read_tensors` returns them, which fit.
    """
    device = transformer.device  # diffusers looks at each module for it
    read = {name: tensor.read().to(device, dtype, copy=True) for name, tensor in tensors.items()}
    wide = _widen(transformer)
    for name, tensor in read.items():
        layer, factor, _ = split_name(name)
        owner, _, child = layer.rpartition(".")
        if not factor:
            wide.get_submodule(layer).weight = nn.Parameter(tensor)
        elif name.endswith(DOWN):
            own = {part: read.get(f"{layer}.{part}") for part in (DOWN, UP, UP_BIAS)}
            place = wide.get_submodule(owner)
            setattr(place, child, LowRankLinear(getattr(place, child), *own.values()))
    wide.__class__ = FluxInputConcat
    return wide.requires_grad_(False).eval()


class LowRankLinear(nn.Module):
    """A linear layer, and what a trained LoRA adds to it: up @ (down @ x) + bias.

    Without peft, which takes about a minute to change all layers of FLUX.1.
    """

    def __init__(self, layer: nn.Module, down: Any, up: Any, bias: Any) -> None:
        super().__init__()
        self.base_layer = layer
        self.lora_A, self.lora_B = nn.Parameter(down), nn.Parameter(up)
        self.lora_bias = None if bias is None else nn.Parameter(bias)

    def forward(self, given: Tensor) -> Tensor:
        """As the layer's."""
        added = linear(linear(given, self.lora_A), self.lora_B, self.lora_bias)
        return self.base_layer(given) + added


def _widen(transformer: FluxTransformer2DModel) -> Any:
    """A copy that shares its weights, with a first layer that reads a hint too."""
    shared: dict[int, Any] = {id(one): one for one in transformer.parameters()}
    wide: Any = copy.deepcopy(transformer, shared)
    wide.x_embedder = _widened(transformer.x_embedder)
    channels = transformer.x_embedder.in_features
    wide.register_to_config(in_channels=2 * channels, out_channels=channels)
    return wide


def saved_name(parameter: str) -> str:
    """What diffusers calls a factor in a file."""
    return f"transformer.{parameter.replace(f'.{ADAPTER}.', '.')}"


def _widened(layer: nn.Linear) -> nn.Linear:
    """A locked layer that reads twice the channels; the weights of the new ones are zero."""
    own = dense_weight(layer)
    weight = torch.cat([own, torch.zeros_like(own)], dim=1)
    wide = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    wide.weight = nn.Parameter(weight.detach(), requires_grad=False)
    wide.bias = layer.bias
    return wide
