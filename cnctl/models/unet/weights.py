"""Trained weights for a base with a U-Net: found in a folder, checked from headers, then loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetUnionModel
from safetensors import SafetensorError

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.input_concat import InputConcat
from cnctl.models.location import Location
from cnctl.models.network import Network
from cnctl.models.prediction import misfit
from cnctl.models.unet.checkpoint.input_concat import find_input_concat
from cnctl.models.unet.checkpoint.source import describe, open_source
from cnctl.models.unet.config import read_denoiser_config, read_prediction
from cnctl.models.unet.input_concat import InputConcatUNet
from cnctl.models.unet.load import load_controlnet
from cnctl.models.unet.shape import check_same_shape
from cnctl.models.unet.union import view_of
from cnctl.models.weights_place import find_low_rank


def find_weights(path: Path) -> Path | None:
    """The weights in the folder of a run of `cnctl train`; None where it is not one."""
    if (path / "controlnet" / "config.json").is_file():
        return path / "controlnet"
    if low_rank := find_low_rank(path):
        return low_rank
    found = find_input_concat(path)
    return found.folder if found else None


def weights_file(source: Path) -> Path:
    """The file of tensors in a folder of weights, or the file itself."""
    found = find_input_concat(source)
    return found.weights if found else open_source(source, whole=False).path


def open_network(
    source: Path,
    base: Base,
    *,
    condition: str,
    hint_channels: int,
    masked: bool = False,
    control_type: int | None = None,
    config: Path | None = None,
    dtype: torch.dtype | None = None,
) -> Network:
    """The ControlNet in these weights, or the U-Net that reads its hint; checked before it loads.

    condition: its name, for messages. masked: not needed. control_type: the kind that its hints are
    to a union; None for none. config: a config.json for weights that have none. dtype: None is the
    base's.
    """
    _check_fits(
        source,
        base.denoiser.config,
        base.path,
        condition=condition,
        hint_channels=hint_channels,
        control_type=control_type,
        config=config,
    )
    if found := find_input_concat(source):
        return _open_input_concat(found, base, dtype=dtype or base.dtype)
    controlnet, _ = load_controlnet(
        source,
        device=base.offload_device,
        dtype=dtype or base.dtype,
        base=base.path,
        config=config,
        condition=condition,
    )
    if not isinstance(controlnet, ControlNetUnionModel):
        return controlnet
    assert control_type is not None  # else it did not fit
    return view_of(controlnet, control_type)


def check_weights(source: Path, location: Location, **asked: Any) -> tuple[str, ...]:
    """What is assumed of these weights, or is odd, a sentence each; no tensor is read.

    asked: condition, hint_channels, masked, control_type and config, as `open_network` takes them.
    Raises CnctlError where they do not fit the base there.
    """
    unet = read_denoiser_config(location)
    assert unet is not None  # the family was recognised by it
    description, assumed = _check_fits(source, unet, location.path, **asked)
    odd = misfit(description, read_prediction(location.path))
    return (*assumed, odd) if odd else assumed


def count_residuals(source: Path) -> int | None:
    """How many residuals the ControlNet in these weights gives; None for a whole U-Net.

    No tensor is read. One for the first layer, in each block one for each layer and one for making
    smaller, which the last block does not do, and the middle block's.
    """
    if find_input_concat(source):
        return None
    own = open_source(source, whole=False).architecture
    return len(own.widths) * (own.layers + 1) + 1


def _check_fits(
    source: Path,
    unet: Mapping[str, Any],
    base: Path,
    *,
    condition: str,
    hint_channels: int,
    masked: bool = False,
    control_type: int | None = None,
    config: Path | None = None,
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The description of the weights, and what is assumed of them.

    unet: the config of the base's; base: the file or folder, which completes some weights.
    """
    if found := find_input_concat(source):
        if config is not None:
            raise CnctlError(
                f"{source} is a whole U-Net with its own config", hint="leave out --config"
            )
        check_same_shape(found.base_config, unet)
        _check_channels(found.folder, found.hint_channels, hint_channels, condition)
        return found.description, ()
    opened = open_source(source, config=config, base=base, condition=condition)
    own = describe(opened)["config"]
    check_same_shape(own, unet)
    _check_channels(source, own["conditioning_channels"], hint_channels, condition)
    if opened.architecture.union and control_type is None:
        raise CnctlError(
            f"{source} is a ControlNet-Union, and {condition} is not a kind of hint that it knows",
            hint="give a ControlNet that was trained on this condition",
        )
    return opened.description, opened.assumed


def _open_input_concat(found: InputConcat, base: Base, *, dtype: torch.dtype) -> InputConcatUNet:
    try:
        unet = InputConcatUNet.from_pretrained(
            found.folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = f"{found.folder} cannot be read: {str(error).strip().splitlines()[0]}"
        raise CnctlError(reason, hint="copy it again") from error
    return unet.to(base.offload_device).eval()


def _check_channels(source: Path, read: int, made: int, condition: str) -> None:
    if read != made:
        raise CnctlError(
            f"{source} reads hints of {read} channels, but {condition} makes {made}",
            hint="give the ControlNet that was trained on this condition",
        )
