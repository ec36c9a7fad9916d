"""The config of the U-Net of a base, from a folder's own or from the shapes in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnctl.models.location import Location, read_json
from cnctl.models.unet import single_file_configs
from cnctl.models.unet.single_file_configs import read_shapes, read_unet_config

PART = "unet"


def read_denoiser_config(location: Location) -> dict[str, Any] | None:
    """As diffusers has it; None for a base without a U-Net. No weight is read."""
    if location.path.is_file():
        return read_unet_config(location.path, read_shapes(location.path))
    index = read_json(location.path / "model_index.json")
    # A base that lacks its U-Net's folder is an incomplete one, and not another family's.
    return read_json(location.path / PART / "config.json") if PART in index else None


def read_prediction(path: Path) -> str:
    """What a base predicts: "epsilon", "v_prediction", or "" where no header says it."""
    if path.is_file():
        return single_file_configs.read_prediction(path)
    config = path / "scheduler" / "scheduler_config.json"
    return str(read_json(config).get("prediction_type", "epsilon")) if config.is_file() else ""
