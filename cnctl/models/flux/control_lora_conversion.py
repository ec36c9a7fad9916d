"""Conversion of LoRAs for FLUX.1 that read hints: from the original's names to diffusers'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.conversion import Conversion
from cnctl.models.flux.control_lora import ControlLora, find_control_lora
from cnctl.models.flux.control_lora_tensors import PREFIX, UP, read_tensors, split_name
from cnctl.models.flux.published import recommended_guidance
from cnctl.models.flux.shape import NAME
from cnctl.models.transformer.format import DIFFUSERS
from cnctl.models.write_weights import refuse_pickle
from cnctl.tensorfiles.lazy import Tensors


def build_conversion(of_controlnets: Conversion) -> Conversion:
    """What `cnctl convert` asks of them; what it refuses of ControlNets it refuses of them too."""
    return replace(
        of_controlnets,
        open=_open,
        describe=_describe,
        known_quirk=lambda path: "; ".join(recommended_guidance(path)),
        read=_read,
        bytes=lambda shapes: 4 * sum(map(prod, shapes.values())),
        average=_refuse_average,
        choose_form=_choose_form,
        check_form=lambda shapes, form, source: None,
        rename=lambda tensors, shapes, form: tensors,
        residuals=_respond,
    )


def _open(path: Path, *, config: Path | None = None, **_: Any) -> ControlLora:
    lora = find_control_lora(path)
    if lora is None or config is not None:
        what = f"{path} is not a LoRA that reads hints" if lora is None else "it needs no config"
        raise CnctlError(what, hint="convert it by itself, without --config")
    if not lora.config:
        raise CnctlError(
            f"{lora.path} has diffusers' names already, and nothing says what base it is for",
            hint="cnctl generate takes it as it is, and diffusers' FluxControlPipeline",
        )
    return lora


def _describe(lora: ControlLora) -> dict[str, Any]:
    return lora.description | {"family": NAME, "hint_channels": 3, "config": lora.config}


def _read(lora: ControlLora) -> Tensors:
    tensors = read_tensors(lora, lora.base_config)
    return {f"{PREFIX}{name}": tensor for name, tensor in tensors.items()}


def _choose_form(to: str | None, target: Path) -> str:
    refuse_pickle(target)
    if to not in (None, DIFFUSERS.name):
        raise CnctlError(f"a LoRA is not written in the form {to!r}", hint="use --to diffusers")
    return DIFFUSERS.name


def _refuse_average(*_: Any) -> Tensors:
    raise CnctlError("the factors of LoRAs have no average", hint="convert one of them")


@torch.no_grad()
def _respond(
    tensors: Tensors, architecture: Any, config: Mapping[str, Any], *, where: Path
) -> list[torch.Tensor]:
    """What each layer adds for random input, and the norms, in float32, in the order of names."""
    # Copied: the last bits of a product depend on where in memory a tensor lies.
    read = {name: tensor.read().to(torch.float32, copy=True) for name, tensor in tensors.items()}
    random, found = torch.Generator().manual_seed(0), []
    for name in sorted(read):
        layer, factor, kind = split_name(name)
        if (factor, kind) == (UP, "weight"):
            down = read[f"{layer}.lora_A.weight"]
            found.append(read[name] @ (down @ torch.randn(down.shape[1], generator=random)))
        elif not factor or kind == "bias":
            found.append(read[name])
    return found
