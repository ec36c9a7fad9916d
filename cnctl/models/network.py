"""The networks that control a base: what the loops of training and sampling ask of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cnctl.models.control import Control
from cnctl.models.residuals import EncodedHint, Residuals
from cnctl.models.text_features import TextFeatures

if TYPE_CHECKING:
    from cnctl.models.base import Base

CONTROLNET, INPUT_CONCAT = METHODS = ("controlnet", "input-concat")
"""How control is attached: beside the base, or through its input (the ablation of figure 20)."""
CONNECTIONS = ("all", "middle")
"""Links of a ControlNet that are trained: all, or the middle block's alone (section 3.4)."""


class Network(nn.Module):
    """A module that reads a hint, trained beside a base or in its place; families subclass it."""

    config: Any
    """As diffusers keeps it."""
    enable_gradient_checkpointing: Callable[[], None]
    method: str
    """One of METHODS."""
    replaces_base: bool
    """Whether it predicts by itself, so that the base's own denoiser is not run."""
    untrainable: str = ""
    """What it is, where `cnctl train` cannot continue from it: "a ControlNet-Union"."""
    reads_tokens: bool = False
    """Whether its residuals depend on the base's tokens, so that each step has its own."""
    runs_base_layers: bool = False
    """Whether it runs layers of the base by itself, besides those that the base runs."""
    reads_edit = False
    """Whether it may read an image to fill in behind its hint: its colours, and 1 where they are
    kept, (B, 4, H, W)."""

    @property
    def export_name(self) -> str:
        """The file or folder of a training run that holds it."""
        raise NotImplementedError

    @property
    def hint_channels(self) -> int:
        """Channels of the hint that it reads."""
        raise NotImplementedError

    @property
    def residual_count(self) -> int:
        """Links to the base; 0 where it replaces the base."""
        raise NotImplementedError

    @property
    def conditional_only(self) -> bool:
        """Whether it acts only on the half of the guidance that sees the prompt."""
        raise NotImplementedError

    def check_fits(self, base: Base) -> None:
        """Raise CnctlError where it was made for another family of bases."""
        raise NotImplementedError

    def encode_hint(self, base: Base, hint: Tensor) -> EncodedHint:
        """Run the hint encoder once: it depends on neither the timestep nor the prompt.

        hint: float (B, hint_channels, H, W) as `hint_tensor` makes it.
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
        """What it adds to the base at latents (B, C, h, w) and a timestep ().

        Some networks use layers of the base.
        """
        raise NotImplementedError

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
        """ε_θ(z_t, t, c_t, c_f) of equation 10, (B, C, h, w). connect: one of CONNECTIONS.

        Here for a network beside the base whose links are all trained.
        """
        encoded = self.encode_hint(base, hint)
        residuals = self.residuals(base, latents, timesteps, text, encoded)
        return base.family.predict(base.denoiser, latents, timesteps, text, residuals)

    def attach(self, base: Base, hint: Tensor, **acts: Any) -> tuple[Base, list[Control]]:
        """What to sample from, and by which controls: here the base, and this control of it.

        acts: how it acts, see `Control`.
        """
        return base, [Control(self, hint, **acts)]

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """What a checkpoint keeps, by name: all that is not locked.

        Most of a copy with low-rank adapters is.
        """
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def learning_parameters(self, *, connect: str = "all") -> dict[str, nn.Parameter]:
        """Its own parameters that gradient reaches, by name."""
        raise NotImplementedError

    def save(
        self,
        target: Path,
        *,
        description: Mapping[str, Any],
        base_update: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write weights and description, whole or not at all, in place of an earlier export.

        base_update: changes of the base that was trained too, by parameter name.
        """
        raise NotImplementedError


def replaces_base(method: str) -> bool:
    """Whether networks of this method take the base's place."""
    return method == INPUT_CONCAT


def hint_tensor(hints: Iterable[np.ndarray], *, channels: int) -> Tensor:
    """Hints of one size -> float (B, channels, H, W) in [0, 1], as a network reads them.

    hints: uint8 or uint16 (H, W, C). One with a channel more than the network reads carries a mask
    in its last; where that is below half the network reads -1, as inpainting ControlNets were
    trained to. Some read the mask itself.
    """
    return torch.stack([_hint_tensor(hint, channels) for hint in hints])


def _hint_tensor(hint: np.ndarray, channels: int) -> Tensor:
    values = (
        torch.from_numpy(np.ascontiguousarray(hint)).permute(2, 0, 1).float()
        / np.iinfo(hint.dtype).max
    )
    if len(values) == channels:
        return values
    colours, mask = values.split([channels, 1])
    return colours.masked_fill(mask < 0.5, -1)
