"""The linear layers of a locked base in 8 or 4 bits, by libraries that diffusers supports too."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cnctl.errors import MissingError
from cnctl.models.base import Base

LIBRARIES = {"int8": "optimum-quanto", "fp8": "optimum-quanto", "nf4": "bitsandbytes"}
"""Form of weights -> the package that computes with it."""
MODULES = {"optimum-quanto": "optimum.quanto", "bitsandbytes": "bitsandbytes"}
NF4_BLOCK = 64
"""Weights with one scale, in float32."""


def check_library(form: str) -> None:
    """Raise MissingError where the library for this form of weights is not installed."""
    library = LIBRARIES[form]
    module = MODULES[library]
    package = module.partition(".")[0]
    if not importlib.util.find_spec(package) or not importlib.util.find_spec(module):
        raise MissingError(
            f"--quantize {form} needs {library}, which is not installed",
            hint=f"pip install {library}, or leave out --quantize",
        )


def quantize_base(base: Base, form: str, *, low_memory: bool) -> Base:
    """The base with its denoiser and text encoders in this form, and then on its device.

    form: one of LIBRARIES. low_memory: they stay in the host's memory until they run. The base must
    be there already, so that the device never holds the whole weights.
    """
    check_library(form)
    for part in base.parts.values():
        quantize(part, form)
    if not low_memory:
        for part in (base.vae, *base.parts.values()):
            part.to(base.device)
        if hasattr(base.vae, "disable_tiling"):
            base.vae.disable_tiling()
    return replace(base, quantized=form, low_memory=low_memory)


@torch.no_grad()
def quantize(module: nn.Module, form: str) -> None:
    """Replace the weights of a module's linear layers; it stays locked."""
    layers = _linear_layers(module)
    if form == "nf4":
        for name, layer in layers.items():
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, _nf4(layer))
    else:
        from optimum import quanto

        kinds = {"int8": quanto.qint8, "fp8": quanto.qfloat8}
        quanto.quantize(module, weights=kinds[form], include=[*layers])
        quanto.freeze(module)
    module.requires_grad_(False)


def dense_weight(layer: nn.Linear) -> torch.Tensor:
    """The weight (out, in) of a linear layer, also where 4 bits hold it."""
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        return layer.weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(layer.weight.data, state)


def quantized_bytes(module: nn.Module, form: str) -> int:
    """Bytes of its weights in this form, "" for the form that they have."""
    weights = {f"{name}.weight" for name in (_linear_layers(module) if form else ())}
    return sum(
        _bytes_in(form, tensor) if name in weights else tensor.numel() * tensor.element_size()
        for name, tensor in module.named_parameters()
    )


def floating_dtype(module: nn.Module) -> torch.dtype:
    """The precision that a module computes in; its weights may be integers."""
    return next(p.dtype for p in module.parameters() if p.is_floating_point())


def _linear_layers(module: nn.Module) -> dict[str, nn.Linear]:
    """By name; without those that their network keeps in float32, whose weights it looks at."""
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and not kept & set(name.split("."))
    }


def _nf4(layer: nn.Linear) -> nn.Module:
    """The layer in 4 bits of a normal distribution (Dettmers et al., 2023)."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    dtype, device = layer.weight.dtype, layer.weight.device
    small: Any = Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=dtype,
        quant_type="nf4",
        device="meta",
    )
    small.weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
    small.bias = layer.bias
    return small.to(device)


def _bytes_in(form: str, weight: torch.Tensor) -> int:
    """Of one weight (out, in), its scales included."""
    if form == "nf4":
        return weight.numel() // 2 + 4 * -(-weight.numel() // NF4_BLOCK)
    return weight.numel() + weight.shape[0] * weight.element_size()
