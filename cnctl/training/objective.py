"""The learning objective as a module, so that accelerate can wrap it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cnctl.models.base import Base
from cnctl.models.network import Network
from cnctl.settings import TrainSettings
from cnctl.training.loss import noise_prediction_loss


class Objective(nn.Module):
    """The loss of a network beside a base, which is part of it only where it is unfrozen."""

    def __init__(
        self, base: Base, network: Network, settings: TrainSettings, *, unfrozen: bool
    ) -> None:
        super().__init__()
        self.network: Any = network
        if unfrozen:
            self.denoiser = base.denoiser  # seen by what sums gradients over the processes
        self._base = base
        self._connect = settings.connect
        self._snr_gamma = settings.snr_gamma
        self._weighting = settings.timestep_weights

    def forward(self, **inputs: Any) -> Tensor:
        """The loss, a scalar; see `noise_prediction_loss` for the inputs."""
        return noise_prediction_loss(
            self._base,
            self.network,
            connect=self._connect,
            snr_gamma=self._snr_gamma,
            weighting=self._weighting,
            **inputs,
        )

    def set_requires_gradient_sync(self, wanted: bool) -> None:
        """Whether the parts, which are FSDP's modules then, reduce gradients at the next step."""
        part: Any
        for part in self.children():
            part.set_requires_gradient_sync(wanted)
