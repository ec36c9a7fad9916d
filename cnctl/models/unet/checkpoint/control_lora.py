"""Write the result of `cnctl train --lora` as a Control-LoRA, in Stability's format.

One safetensors file with the original's names: `NAME.up` and `NAME.down` for a weight whose change
is their product, whole tensors for what no base has, and nothing for what stayed as the base's.
Config and description travel in its metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import ControlNetModel
from torch import Tensor

from cnctl.models.factors import DOWN, UP
from cnctl.models.save import save_low_rank
from cnctl.models.unet.checkpoint.architecture import read_architecture
from cnctl.models.unet.checkpoint.keymap import pairs


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
    tensors: dict[str, Tensor] = {}
    for pair in pairs(read_architecture(shapes)):
        theirs, ours = (name.removesuffix(".weight") for name in (pair.original, pair.diffusers))
        names = {pair.original: pair.diffusers, theirs + UP: ours + UP, theirs + DOWN: ours + DOWN}
        tensors |= {original: trained[name] for original, name in names.items() if name in trained}
    save_low_rank(controlnet, path, tensors, description=description)
