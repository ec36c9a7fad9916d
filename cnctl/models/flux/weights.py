"""Trained weights for FLUX.1: ControlNets, and LoRAs that read hints as further input channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.flux.files import FILES
from cnctl.models.flux.format import FORMAT, find_lora
from cnctl.models.flux.input_concat import build_input_concat, saved_name
from cnctl.models.flux.shape import NAME, check_same_shape
from cnctl.models.input_concat import InputConcat
from cnctl.models.location import Location
from cnctl.models.network import Network
from cnctl.models.transformer import weights as of_controlnets
from cnctl.tensorfiles.expected import check
from cnctl.tensorfiles.lazy import open_tensors
from cnctl.tensorfiles.listing import list_tensors


def find_weights(path: Path) -> Path | None:
    """The weights in the folder of a run of `cnctl train`; None where it is not one."""
    found = find_lora(path)
    return found.folder if found else of_controlnets.find_weights(path)


def weights_file(source: Path) -> Path:
    """The file of tensors in a folder of weights, or the file itself."""
    found = find_lora(source)
    return found.weights if found else of_controlnets.weights_file(source)


def check_weights(source: Path, location: Location, **asked: Any) -> tuple[str, ...]:
    """As for ControlNets of transformers."""
    if found := find_lora(source):
        _check_fits(found, FILES.read_config(location), **asked)
        return ()
    return of_controlnets.check_weights(FORMAT, FILES, source, location, **asked)


def open_network(
    source: Path, base: Base, *, dtype: torch.dtype | None = None, **asked: Any
) -> Network:
    """The ControlNet in these weights, or the transformer that reads hints; see `check_weights`."""
    found = find_lora(source)
    if found is None:
        return of_controlnets.open_network(FORMAT, source, base, dtype=dtype, **asked)
    _check_fits(found, base.denoiser.config, **asked)
    return _open_lora(found, base)


def _check_fits(
    found: InputConcat, transformer: Any, *, condition: str, hint_channels: int, **_: Any
) -> None:
    check_same_shape(found.base_config, transformer)
    of_controlnets.check_hint_channels(NAME, condition, hint_channels)


def _open_lora(found: InputConcat, base: Base) -> Network:
    listing = list_tensors(found.weights)
    tensors = open_tensors(found.weights, listing.container, listing.tensors, listing.tensors)
    rank = min((min(tensor.shape) for tensor in tensors.values()), default=1)
    network = build_input_concat(base.denoiser, rank=rank)
    factors = {saved_name(name): factor for name, factor in network.own_parameters().items()}
    try:
        check({n: t.shape for n, t in tensors.items()}, {n: f.shape for n, f in factors.items()})
    except CnctlError as error:
        raise CnctlError(f"{found.weights}: {error}", hint="copy it again") from error
    with torch.no_grad():
        for name, factor in factors.items():
            factor.copy_(tensors[name].read())
    return network.requires_grad_(False).eval()
