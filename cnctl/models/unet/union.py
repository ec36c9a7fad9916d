"""A ControlNet-Union for SDXL (xinsir's ControlNetPlus) as a ControlNet for one kind of hint.

A union reads hints of several kinds with the same weights, and is told which kind it is given.
"""

from __future__ import annotations

import copy
from typing import Any

from diffusers import ControlNetUnionModel
from torch import Tensor

from cnctl.errors import CnctlError


class OneKind(ControlNetUnionModel):
    """A view of a union, called as a `ControlNetModel` is. See `one_kind`."""

    control_type: int

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """What a `ControlNetModel` gives for these."""
        given = sample.new_zeros(len(sample), self.config.num_control_type)
        given[:, self.control_type] = 1
        return super().forward(
            sample,
            timestep,
            encoder_hidden_states,
            [controlnet_cond],
            given,
            [self.control_type],
            added_cond_kwargs=added_cond_kwargs,
            return_dict=return_dict,
        )


def one_kind(union: ControlNetUnionModel, control_type: int) -> OneKind:
    """A view of this union, sharing all its weights, that takes every hint for this kind.

    control_type: as in the published weights: 0 pose, 1 depth, 2 soft edges and scribbles, 3 lines,
    4 normals, 5 segments; 6 tile and 7 repaint in the larger ("promax"). CnctlError where the union
    has fewer kinds.
    """
    if not 0 <= control_type < union.config.num_control_type:
        raise CnctlError(
            f"this ControlNet-Union knows {union.config.num_control_type} kinds of hint, "
            f"and not number {control_type}",
            hint="the larger published one (promax) knows 8; or choose another ControlNet",
        )
    view = copy.copy(union)
    view.__class__ = OneKind
    view.control_type = control_type
    return view
