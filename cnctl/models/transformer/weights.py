"""Trained weights for a transformer: found in a folder, checked from headers, then loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cnctl.errors import CnctlError
from cnctl.models.base import Base
from cnctl.models.location import Location
from cnctl.models.transformer.files import BaseFiles
from cnctl.models.transformer.format import ControlNetFormat
from cnctl.models.transformer.load import load_controlnet
from cnctl.models.transformer.shapes import count_layers
from cnctl.models.transformer.source import Source, describe, open_source
from cnctl.models.weights_place import find_low_rank, locate_weights


def find_weights(path: Path) -> Path | None:
    """Where the weights of a run of `cnctl train` lie in its folder; None where it is not one."""
    if (path / "controlnet" / "config.json").is_file():
        return path / "controlnet"
    return find_low_rank(path)


def weights_file(source: Path) -> Path:
    """The file of tensors in a folder of weights, or the file itself."""
    return locate_weights(source)[0]


def open_network(
    format: ControlNetFormat,
    source: Path,
    base: Base,
    *,
    dtype: torch.dtype | None = None,
    control_type: int | None = None,
    **asked: Any,
) -> Any:
    """The ControlNet in these weights; checked before it loads. dtype: None is the base's.

    asked: condition, hint_channels, masked and config, as for `check_weights`.
    """
    denoiser = base.denoiser.config
    opened = _check_fits(format, source, denoiser, base.path, control_type=control_type, **asked)
    network, _ = load_controlnet(
        format, opened, device=base.offload_device, dtype=dtype or base.dtype
    )
    network.control_type = control_type
    return network


def check_weights(
    format: ControlNetFormat, files: BaseFiles, source: Path, location: Location, **asked: Any
) -> tuple[str, ...]:
    """What is assumed of weights; CnctlError where they do not fit the base there.

    asked: condition (its name), hint_channels, masked (whether hints carry a mask behind these),
    control_type (the kind that its hints are to a union, or None) and config (a config.json for
    weights that have none, or None). No tensor is read.
    """
    denoiser = files.read_config(location)
    opened = _check_fits(format, source, denoiser, location.path, **asked)
    return format.list_assumptions(describe(format, opened)["config"], denoiser)


def count_residuals(format: ControlNetFormat, source: Path) -> int:
    """How many residuals the ControlNet in these weights gives; no tensor is read."""
    expected = open_source(format, source, whole=False).expected
    return sum(count_layers(expected, layers) for layers in format.residual_layers)


def check_hint_channels(family: str, condition: str, hint_channels: int) -> None:
    """Raise CnctlError for hints that no autoencoder of images can encode."""
    if hint_channels != 3:
        raise CnctlError(
            f"hints of {condition} have {hint_channels} channels, and ControlNets of {family} "
            "read hints through the autoencoder, as images of 3",
            hint="choose a condition whose hints are images",
        )


def _check_fits(
    format: ControlNetFormat,
    source: Path,
    denoiser: Mapping[str, Any],
    base: Path,
    *,
    condition: str,
    hint_channels: int,
    masked: bool = False,
    control_type: int | None = None,
    config: Path | None = None,
) -> Source:
    """denoiser: the config of the base's. base: its folder or file."""
    opened = open_source(format, source, config=config, base=base)
    format.check_same_shape(describe(format, opened)["config"], denoiser)
    check_hint_channels(format.family, condition, hint_channels)
    format.check_hints(opened, condition=condition, masked=masked, control_type=control_type)
    return opened
