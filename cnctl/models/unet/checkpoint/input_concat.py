"""The result of `cnctl train --method input-concat` on a base with a U-Net: a whole U-Net."""

from __future__ import annotations

from pathlib import Path

from cnctl.models import input_concat
from cnctl.models.input_concat import InputConcat

CLASS = "UNet2DConditionModel"


def find_input_concat(source: Path) -> InputConcat | None:
    """The U-Net in a run, in a folder or beside a file of weights; None for another network."""
    return input_concat.find_input_concat(source, CLASS)
