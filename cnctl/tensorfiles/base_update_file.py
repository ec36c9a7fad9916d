"""The file of changes to a base that was trained with a ControlNet, beside its weights.

A safetensors file `base_delta.safetensors` with differences, float32, by the parameter names of
diffusers' U-Net; what the file does not name has stayed as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnctl.errors import CnctlError

if TYPE_CHECKING:
    from torch import Tensor

BASE_UPDATE = "base_delta.safetensors"


def load_base_update(source: Path) -> dict[str, Tensor]:
    """Changes of a base that was trained too, by its U-Net's parameter names; {} if none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = base_update_of(source)
    try:
        return load_file(path) if path.is_file() else {}
    except (OSError, SafetensorError) as error:
        raise CnctlError(f"{path} cannot be read: {error}", hint="copy it again") from error


def has_base_update(source: Path) -> bool:
    """Return whether these weights (a folder, or a file in one) were trained with their base."""
    return base_update_of(source).is_file()


def base_update_of(source: Path) -> Path:
    """Return where the update of the base is, if these weights have one."""
    return (source if source.is_dir() else source.parent) / BASE_UPDATE
