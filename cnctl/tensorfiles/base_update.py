"""What a base has learnt along with a ControlNet, which lies beside the ControlNet's weights.

A safetensors file `base_delta.safetensors` with differences, float32, by the parameter names of
diffusers' U-Net; what the file does not name has stayed as it was.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cnctl.errors import CnctlError
from cnctl.tensorfiles.listing import base_update_of


def load_base_update(source: Path) -> dict[str, torch.Tensor]:
    """What the base has learnt along: differences by its U-Net's parameter names; {} if nothing."""
    path = base_update_of(source)
    try:
        return load_file(path) if path.is_file() else {}
    except (OSError, SafetensorError) as error:
        raise CnctlError(f"{path} cannot be read: {error}", hint="copy it again") from error
