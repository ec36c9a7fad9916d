"""Checkpoint formats: which form a ControlNet file has, and the same weights in another form.

The three names below import torch when they are asked for; reading a file's header does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnctl.models.unet.checkpoint.controlnet import load_controlnet, save_controlnet
    from cnctl.models.unet.checkpoint.source import read_description

__all__ = ["load_controlnet", "read_description", "save_controlnet"]

_HOMES = {
    "load_controlnet": "cnctl.models.unet.checkpoint.controlnet",
    "save_controlnet": "cnctl.models.unet.checkpoint.controlnet",
    "read_description": "cnctl.models.unet.checkpoint.source",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cnctl.models.unet.checkpoint' has no attribute {name!r}")
