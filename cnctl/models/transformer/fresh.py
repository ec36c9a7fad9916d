"""Fresh ControlNets of the families of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnctl.models.base import Base
from cnctl.models.network import Network
from cnctl.models.transformer.starts import GAUSSIAN
from cnctl.models.transformer.weights import check_hint_channels


def network_builder(family: str, build: Callable[..., Network]) -> Callable[..., Network]:
    """The `build_network` of a family.

    build(denoiser, layers=, hint_start=, seed=): a fresh ControlNet.
    """

    def build_network(
        base: Base,
        *,
        hint_channels: int,
        hint_start: str = GAUSSIAN,
        layers: int = 0,
        seed: int = 0,
        **_: Any,
    ) -> Network:
        """A fresh ControlNet; the other settings have their defaults (`UNSUPPORTED`)."""
        check_hint_channels(family, "this condition", hint_channels)
        return build(base.denoiser, layers=layers, hint_start=hint_start, seed=seed)

    return build_network
