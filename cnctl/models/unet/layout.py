"""The layout of files of ControlNets for U-Nets. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.models.checkpoint_layout import CheckpointLayout
from cnctl.models.unet.checkpoint.input_concat import find_input_concat
from cnctl.models.unet.checkpoint.source import read_description
from cnctl.models.unet.checkpoint.summary import describe_weights

if TYPE_CHECKING:
    from cnctl.models.conversion import Conversion


def load_conversion(path: Path) -> Conversion:
    """What converts these files; imports torch."""
    from cnctl.models.unet.conversion import CONVERSION

    return CONVERSION


def load(source: str | Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """As `cnctl.models.unet.load.load_controlnet`."""
    from cnctl.models.unet.load import load_controlnet

    return load_controlnet(source, **options)


LAYOUT = CheckpointLayout(
    holds=lambda path: find_input_concat(path) is not None,
    describe=describe_weights,
    read_description=read_description,
    load=load,
    load_conversion=load_conversion,
)
