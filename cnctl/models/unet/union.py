"""A ControlNet-Union for SDXL (xinsir's ControlNetPlus) as a ControlNet for one kind of hint.

A union reads hints of several kinds with the same weights, and the kind of a hint is an input.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import ControlNetUnionModel
from torch import Tensor

from cnctl.errors import CnctlError
from cnctl.models.residuals import EncodedHint
from cnctl.models.unet.branch import Branch, added_embedding, run_encoder, time_embedding


class UnionView(Branch, ControlNetUnionModel):
    """A view of a union, called as a `ControlNetModel` is. See `view_of`."""

    untrainable = "a ControlNet-Union"
    control_type: int
    conv_in: Any
    task_embedding: Any
    transformer_layes: Any
    spatial_ch_projs: Any
    control_type_proj: Any
    control_add_embedding: Any

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor | EncodedHint,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """What a `ControlNetModel` gives for these; of an encoded hint, the residuals as a pair."""
        kinds = sample.new_zeros(len(sample), self.config.num_control_type)
        kinds[:, self.control_type] = 1
        if not isinstance(controlnet_cond, EncodedHint):
            return super().forward(
                sample,
                timestep,
                encoder_hidden_states,
                [controlnet_cond],
                kinds,
                [self.control_type],
                added_cond_kwargs=added_cond_kwargs,
                return_dict=return_dict,
            )
        time = time_embedding(self, sample, timestep)
        kind = self.control_type_proj(kinds.flatten()).reshape(len(sample), -1)
        time = time + self.control_add_embedding(kind.to(time.dtype))
        if self.config.addition_embed_type == "text_time":
            time = time + added_embedding(self, added_cond_kwargs or {}, time.dtype)
        sample = self.conv_in(sample)
        sample = sample + self._fused(sample, controlnet_cond.features)
        return run_encoder(self, sample, time, encoder_hidden_states)

    def _fused(self, sample: Tensor, features: Tensor) -> Tensor:
        """The hint's features, and what a transformer over hint and sample adds to each channel."""
        hint = features.mean(dim=(2, 3)) + self.task_embedding[self.control_type]
        tokens = torch.stack([hint, sample.mean(dim=(2, 3))], dim=1)
        for layer in self.transformer_layes:  # diffusers' spelling
            tokens = layer(tokens)
        return features + self.spatial_ch_projs(tokens[:, 0])[..., None, None]


def view_of(union: ControlNetUnionModel, control_type: int) -> UnionView:
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
    view.__class__ = UnionView
    view.control_type = control_type
    return view
