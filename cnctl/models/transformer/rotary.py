"""How a rotary embedding divides the width of a head between frame, row and column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnctl.errors import CnctlError
from cnctl.models.transformer.source import UndeterminedError

AXES = {128: [16, 56, 56]}
"""Width of a head -> what the published networks have, which no shape determines."""


def rotary_axes(config: Mapping[str, Any], width: int) -> list[int]:
    """The axes of heads of this width, from a config or as published.

    UndeterminedError where neither says it; CnctlError where the config is of another width.
    """
    axes = config.get("axes_dims_rope") or AXES.get(width)
    if axes is None:
        raise UndeterminedError(
            f"no shape says how the rotary embedding divides heads of width {width}",
            hint="give the folder with its config.json, or --config FILE",
        )
    if not isinstance(axes, list | tuple) or sum(axes) != width:
        raise CnctlError(
            f"the config says axes_dims_rope = {axes}, the weights have heads of width {width}",
            hint="the config belongs to another ControlNet",
        )
    return list(axes)
