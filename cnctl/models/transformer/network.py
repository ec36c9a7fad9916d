"""ControlNets that read hints through the autoencoder of their base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from cnctl.models.adapters import has_adapters
from cnctl.models.network import CONTROLNET, Network
from cnctl.models.residuals import EncodedHint
from cnctl.models.save import save_low_rank, save_network
from cnctl.models.transformer.low_rank import trained_tensors
from cnctl.models.weights_place import LOW_RANK

if TYPE_CHECKING:
    from cnctl.models.base import Base


class LatentHintNetwork(Network):
    """A ControlNet of diffusers for a transformer; families add its class, and what it returns."""

    method = CONTROLNET
    replaces_base = False
    conditional_only = False
    hint_bounds = (-1.0, 1.0)
    """What black and white are for the autoencoder."""
    control_type: int | None = None
    """Of a union: the kind that its hint is of."""

    computed: frozenset[str] = frozenset()
    """Tensors that are computed, not trained."""

    @property
    def export_name(self) -> str:
        """A folder of diffusers, or a Control-LoRA's file."""
        return LOW_RANK if has_adapters(self) else "controlnet"

    @property
    def reads_mask(self) -> bool:
        """Whether it is made for inpainting: a mask of what is kept comes beside the hint."""
        return False

    @property
    def hint_channels(self) -> int:
        """Colours, and the mask where it reads one."""
        return 3 + self.reads_mask

    @property
    def hints_are_shifted(self) -> bool:
        """Whether the latents of hints are shifted as the base's are."""
        return True

    @torch.no_grad()
    def encode_hint(self, base: Base, hint: Tensor) -> EncodedHint:
        """The latents (B, C, h, w) of a hint, with the mask behind them where it reads one.

        What is masked is black: it has colours of -1, or a mask below half.
        """
        colours, mask = hint[:, :3], (hint[:, 3:] >= 0.5).float()
        low, high = self.hint_bounds
        pixels = low + (high - low) * colours.clamp(min=0)
        if self.reads_mask:
            pixels = pixels.masked_fill(mask == 0, low)
        encode = base.family.latents.encode_hint
        latents = encode(base, pixels, shifted=self.hints_are_shifted)
        if self.reads_mask:
            small = functional.interpolate(mask.to(latents), latents.shape[2:])
            latents = torch.cat([latents, small], dim=1)
        return EncodedHint(latents)

    def save(
        self,
        target: Path,
        *,
        description: Mapping[str, Any],
        base_update: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a folder that `from_pretrained` of diffusers' class reads, or a Control-LoRA."""
        bounds = {} if self.hint_bounds == (-1.0, 1.0) else {"hint_bounds": [*self.hint_bounds]}
        described = {**description, **bounds}
        if has_adapters(self):
            tensors = trained_tensors(self, self.computed)
            save_low_rank(self, target, tensors, description=described)
        else:
            save_network(self, target, description=described, base_update=base_update)
