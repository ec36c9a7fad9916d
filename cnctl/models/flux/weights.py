"""Trained weights for FLUX.1: ControlNets, and LoRAs that read hints as further input channels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cnctl.models.base import Base
from cnctl.models.flux.control_lora import ControlLora, find_control_lora
from cnctl.models.flux.control_lora_tensors import read_tensors
from cnctl.models.flux.files import FILES
from cnctl.models.flux.format import FORMAT
from cnctl.models.flux.input_concat import open_input_concat
from cnctl.models.flux.shape import NAME, check_same_shape
from cnctl.models.location import Location
from cnctl.models.network import Network
from cnctl.models.transformer import weights as of_controlnets
from cnctl.tensorfiles.lazy import Tensors


def find_weights(path: Path) -> Path | None:
    """The weights in the folder of a run of `cnctl train`; None where it is not one."""
    lora = find_control_lora(path) if path.is_dir() else None
    return lora.path if lora else of_controlnets.find_weights(path)


def weights_file(source: Path) -> Path:
    """The file of tensors in a folder of weights, or the file itself."""
    lora = find_control_lora(source)
    return lora.path if lora else of_controlnets.weights_file(source)


def check_weights(source: Path, location: Location, **asked: Any) -> tuple[str, ...]:
    """As for ControlNets of transformers."""
    if lora := find_control_lora(source):
        _read_fitting(lora, FILES.read_config(location), **asked)
        return ()
    return of_controlnets.check_weights(FORMAT, FILES, source, location, **asked)


def count_residuals(source: Path) -> int | None:
    """As for ControlNets of transformers; None for a LoRA that reads hints."""
    if find_control_lora(source):
        return None
    return of_controlnets.count_residuals(FORMAT, source)


def open_network(
    source: Path, base: Base, *, dtype: torch.dtype | None = None, **asked: Any
) -> Network:
    """The ControlNet in these weights, or the transformer that reads hints; see `check_weights`."""
    lora = find_control_lora(source)
    if lora is None:
        return of_controlnets.open_network(FORMAT, source, base, dtype=dtype, **asked)
    tensors = _read_fitting(lora, base.denoiser.config, **asked)
    return open_input_concat(base.denoiser, tensors, dtype=dtype or base.dtype)


def _read_fitting(
    lora: ControlLora,
    transformer: Mapping[str, Any],
    *,
    condition: str,
    hint_channels: int,
    **_: Any,
) -> Tensors:
    """Its tensors, not yet read; CnctlError where they do not fit a base's transformer."""
    if lora.config:
        check_same_shape(lora.base_config, transformer)
    of_controlnets.check_hint_channels(NAME, condition, hint_channels)
    return read_tensors(lora, transformer)
