"""Write the result of `cnctl train --lora` as a Control-LoRA, in Stability's format.

One safetensors file with the original's names: `NAME.up` and `NAME.down` for a weight whose change
is their product, whole tensors for what no base has, and nothing for what stayed as the base's.
Config and description travel in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from cnctl.models.save import diffusers_config
from cnctl.models.unet.checkpoint.architecture import read_architecture
from cnctl.models.unet.checkpoint.factorise import MARK
from cnctl.models.unet.checkpoint.factors import DOWN, UP
from cnctl.models.unet.checkpoint.keymap import pairs
from cnctl.models.weights_place import METADATA_KEY
from cnctl.tensorfiles.lazy import ready
from cnctl.tensorfiles.write import write_file


def save_control_lora(
    path: Path,
    trained: Mapping[str, Tensor],
    controlnet: ControlNetModel,
    *,
    description: Mapping[str, Any],
) -> None:
    """Write a file that `load_controlnet` reads together with its base, in place of an earlier one.

    trained: by diffusers' names, `.up` and `.down` in place of `.weight` where there are factors.
    controlnet: with or without adapters; what it says of its shape. OutputError as elsewhere.
    """
    shapes = {
        name.replace(".base_layer.", "."): tuple(tensor.shape)
        for name, tensor in controlnet.state_dict().items()
    }
    tensors = {MARK: ready(torch.zeros(0))}
    for pair in pairs(read_architecture(shapes)):
        theirs, ours = (name.removesuffix(".weight") for name in (pair.original, pair.diffusers))
        names = {pair.original: pair.diffusers, theirs + UP: ours + UP, theirs + DOWN: ours + DOWN}
        tensors |= {
            original: ready(trained[name].cpu().contiguous())
            for original, name in names.items()
            if name in trained
        }
    written = {"config": diffusers_config(controlnet), "description": dict(description)}
    write_file(
        path, tensors, metadata=lambda done: {METADATA_KEY: json.dumps(written)}, overwrite=True
    )
