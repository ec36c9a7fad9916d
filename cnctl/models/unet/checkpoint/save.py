"""Write a trained network as a folder that diffusers reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from cnctl.tensorfiles.lazy import ready
from cnctl.tensorfiles.write import write_folder


def save_controlnet(
    controlnet: ControlNetModel,
    folder: str | Path,
    *,
    description: Mapping[str, Any],
    base_update: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a folder that `ControlNetModel.from_pretrained` reads, with cnctl.json beside.

    The folder appears whole or not at all. An earlier ControlNet at that place is replaced; a
    folder with anything else in it is left alone (OutputError). description: JSON values.
    base_update: changes of the base's U-Net that was trained too, by parameter name.
    """
    _save(controlnet, Path(folder), description, base_update or {})


def save_unet(
    unet: UNet2DConditionModel, folder: str | Path, *, description: Mapping[str, Any]
) -> None:
    """Write a folder that `UNet2DConditionModel.from_pretrained` reads; else as a ControlNet's."""
    _save(unet, Path(folder), description, {})


def _save(
    network: ControlNetModel | UNet2DConditionModel,
    folder: Path,
    description: Mapping[str, Any],
    base_update: Mapping[str, torch.Tensor],
) -> None:
    config = diffusers_config(network)
    tensors = {name: ready(tensor.detach().cpu()) for name, tensor in network.state_dict().items()}
    described = {name: value for name, value in description.items() if name != "config"}
    write_folder(
        folder,
        tensors,
        config=config,
        description=lambda: described,
        base_update={name: ready(tensor) for name, tensor in base_update.items()},
        overwrite=True,
    )


def diffusers_config(network: Any) -> dict[str, Any]:
    """The config of a diffusers module, or of a class of ours that extends one."""
    config = json.loads(network.to_json_string())
    config.pop("_name_or_path", None)  # a place on this machine, nobody else's business
    kinds = (kind for kind in type(network).__mro__ if kind.__module__.startswith("diffusers."))
    return config | {"_class_name": next(kinds).__name__}
