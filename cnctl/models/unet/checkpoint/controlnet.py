"""A ControlNet from disk to a diffusers module and back, whatever form the file has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, UNet2DConditionModel

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint import config as configs
from cnctl.models.unet.checkpoint.architecture import Architecture
from cnctl.models.unet.checkpoint.source import Source, describe, open_source
from cnctl.models.unet.checkpoint.tensors import read_tensors
from cnctl.tensorfiles.lazy import Tensors, ready
from cnctl.tensorfiles.write import write_folder

HintEncoders = Mapping[str, Callable[[ControlNetModel], object]]


def load_controlnet(
    source: str | Path | Source,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    base: Path | None = None,
    hint_encoders: HintEncoders | None = None,
) -> tuple[ControlNetModel | ControlNetUnionModel, dict[str, Any]]:
    """Load a ControlNet of any known form, with its description (see `read_description`).

    source: a diffusers folder or file, an original checkpoint (whole, alone, or with bare keys), as
    safetensors or as torch's `.pth` and `.ckpt`, which are read without running what they contain.
    dtype: None keeps the file's own. base: the base (folder or file) that completes a difference
    file or a Control-LoRA; other files need none. hint_encoders: what puts a hint encoder that
    diffusers does not know into a fresh module, by the name in the config ("paper").
    """
    opened = source if isinstance(source, Source) else open_source(source, base=base)
    controlnet = build(
        read_tensors(opened),
        opened.architecture,
        opened.config,
        where=opened.path,
        device=device,
        dtype=dtype,
        hint_encoders=hint_encoders or {},
    )
    return controlnet, describe(opened)


def build(
    tensors: Tensors,
    architecture: Architecture,
    config: Mapping[str, Any],
    *,
    where: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    hint_encoders: HintEncoders,
) -> ControlNetModel | ControlNetUnionModel:
    """A module with copies of these tensors (diffusers' names), in evaluation mode.

    where: the file, for messages. The rest as for `load_controlnet`.
    """
    controlnet = _empty(architecture, config, where=where, hint_encoders=hint_encoders)
    # Copied: a mapped file may change, and on the CPU the last bits of a result depend on where in
    # memory a tensor lies. Cast here, because `ControlNetModel.to` would warn.
    weights = {
        name: lazy.read().to(device, dtype or lazy.dtype, copy=True)
        for name, lazy in tensors.items()
    }
    controlnet.load_state_dict(weights, strict=True, assign=True)
    return controlnet.eval()


def save_controlnet(
    controlnet: ControlNetModel,
    folder: str | Path,
    *,
    description: Mapping[str, Any],
    base_delta: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a folder that `ControlNetModel.from_pretrained` reads, with cnctl.json beside.

    The folder appears whole or not at all. An earlier ControlNet at that place is replaced; a
    folder with anything else in it is left alone (OutputError). description: JSON values.
    base_delta: what the base's U-Net has learnt along, differences by parameter name.
    """
    _save(controlnet, Path(folder), description, base_delta or {})


def save_unet(
    unet: UNet2DConditionModel, folder: str | Path, *, description: Mapping[str, Any]
) -> None:
    """Write a folder that `UNet2DConditionModel.from_pretrained` reads; else as a ControlNet's."""
    _save(unet, Path(folder), description, {})


def _save(
    network: ControlNetModel | UNet2DConditionModel,
    folder: Path,
    description: Mapping[str, Any],
    base_delta: Mapping[str, torch.Tensor],
) -> None:
    config = json.loads(network.to_json_string())
    config.pop("_name_or_path", None)  # a place on this machine, nobody else's business
    tensors = {name: ready(tensor.detach().cpu()) for name, tensor in network.state_dict().items()}
    described = {name: value for name, value in description.items() if name != "config"}
    write_folder(
        folder,
        tensors,
        config=config,
        description=lambda: described,
        base_delta={name: ready(tensor) for name, tensor in base_delta.items()},
        overwrite=True,
    )


def _empty(
    architecture: Architecture,
    config: Mapping[str, Any],
    *,
    where: Path,
    hint_encoders: HintEncoders,
) -> ControlNetModel | ControlNetUnionModel:
    """A module on the meta device."""
    form = architecture.hint_encoder
    if form != "released" and form not in hint_encoders:
        raise CnctlError(
            f"{where} has the hint encoder of the {form}, which is not read here",
            hint="use it with cnctl train and cnctl generate",
        )
    try:
        with torch.device("meta"):
            kind = ControlNetUnionModel if architecture.union else ControlNetModel
            controlnet = kind(**configs.complete_config(config, architecture))
            if form in hint_encoders:
                hint_encoders[form](controlnet)
    except (ValueError, TypeError, ZeroDivisionError, KeyError, NotImplementedError) as error:
        raise CnctlError(
            f"{where}: its config makes no ControlNet: {' '.join(str(error).split())[:200]}",
            hint="give the right config.json with --config FILE",
        ) from error
    return controlnet
