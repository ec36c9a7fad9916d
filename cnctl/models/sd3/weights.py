"""Trained weights for a base of SD3: found in a folder, checked from headers, then loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.location import Location, read_json
from cnctl.models.sd3.base import PART
from cnctl.models.sd3.controlnet import Sd3ControlNet
from cnctl.models.sd3.load import load_controlnet
from cnctl.models.sd3.shape import check_same_shape
from cnctl.models.sd3.source import Source, describe, open_source
from cnctl.models.weights_place import locate_weights


def find_weights(path: Path) -> Path | None:
    """Where the weights of a run of `cnctl train` lie in its folder; None where it is not one."""
    return path / "controlnet" if (path / "controlnet" / "config.json").is_file() else None


def weights_file(source: Path) -> Path:
    """The file of tensors in a folder of weights, or the file itself."""
    return locate_weights(source)[0]


def open_network(
    source: Path,
    base: Base,
    *,
    condition: str,
    hint_channels: int,
    control_type: int | None = None,
    config: Path | None = None,
    dtype: torch.dtype | None = None,
) -> Sd3ControlNet:
    """The ControlNet in these weights; checked before it loads. dtype: None is the base's."""
    opened = _check_fits(source, base.denoiser.config, condition, hint_channels, config)
    network, _ = load_controlnet(opened, device=base.offload_device, dtype=dtype or base.dtype)
    return network


def check_weights(
    source: Path,
    location: Location,
    *,
    condition: str,
    hint_channels: int,
    control_type: int | None = None,
    config: Path | None = None,
) -> tuple[str, ...]:
    """Nothing is assumed of weights; CnctlError where they do not fit the base there.

    No tensor is read.
    """
    transformer = read_json(location.path / PART / "config.json")
    _check_fits(source, transformer, condition, hint_channels, config)
    return ()


def check_hint_channels(condition: str, hint_channels: int) -> None:
    """Raise CnctlError for hints that no autoencoder of images can encode."""
    if hint_channels != 3:
        raise CnctlError(
            f"hints of {condition} have {hint_channels} channels, and ControlNets of SD3 read "
            "hints through the autoencoder, as images of 3",
            hint="choose a condition whose hints are images",
        )


def _check_fits(
    source: Path,
    transformer: Mapping[str, Any],
    condition: str,
    hint_channels: int,
    config: Path | None,
) -> Source:
    """transformer: the config of the base's."""
    opened = open_source(source, config=config)
    own = describe(opened)["config"]
    check_same_shape(own, transformer)
    if own["extra_conditioning_channels"]:
        raise CnctlError(
            f"{source} reads a mask beside its hint, which is not supported",
            hint="any base inpaints by --image and --mask",
        )
    check_hint_channels(condition, hint_channels)
    return opened
