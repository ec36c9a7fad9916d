"""Networks that read a hint as further input channels, in place of the base's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cnctl.models.network import INPUT_CONCAT, Network
from cnctl.models.residuals import EncodedHint, Residuals
from cnctl.models.text_features import TextFeatures

if TYPE_CHECKING:
    from cnctl.models.base import Base
    from cnctl.models.control import Control


class InputConcatNetwork(Network):
    """A network of diffusers that was widened; families add its class, and how it is saved."""

    method = INPUT_CONCAT
    replaces_base = True
    export_name = "input-concat"
    residual_count = 0
    conditional_only = False

    def with_hint(self, hint: Tensor) -> nn.Module:
        """The network with an encoded hint (1 or B, C, h, w), used as any base's denoiser is.

        Latents may be any multiple of B, as they are where guidance doubles a batch.
        """
        raise NotImplementedError

    def residuals(
        self,
        base: Base,
        latents: Tensor,
        timestep: Tensor,
        text: TextFeatures,
        hint: EncodedHint,
    ) -> Residuals:
        """Nothing: it replaces the base."""
        return Residuals(())

    def predict(
        self,
        base: Base,
        latents: Tensor,
        timesteps: Tensor,
        text: TextFeatures,
        hint: Tensor,
        *,
        connect: str = "all",
    ) -> Tensor:
        """Its own prediction (B, C, h, w)."""
        denoiser = self.with_hint(self.encode_hint(base, hint).features)
        return base.family.predict(denoiser, latents, timesteps, text, None)

    def attach(self, base: Base, hint: Tensor, **acts: Any) -> tuple[Base, list[Control]]:
        """The base with itself, and this hint, in place of the denoiser; no controls."""
        # One at a time, so that batches agree.
        encoded = torch.cat([self.encode_hint(base, one[None]).features for one in hint])
        return replace(base, denoiser=self.with_hint(encoded)), []

    def learning_parameters(self, *, connect: str = "all") -> dict[str, nn.Parameter]:
        """All its own parameters."""
        return self.own_parameters()
