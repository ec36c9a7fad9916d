"""Fresh ControlNets of the families of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnctl.models.adapters import add_adapters
from cnctl.models.base import Base
from cnctl.models.network import Network
from cnctl.models.transformer.format import ControlNetFormat
from cnctl.models.transformer.starts import GAUSSIAN
from cnctl.models.transformer.weights import check_hint_channels


def network_builder(format: ControlNetFormat) -> Callable[..., Network]:
    """The `build_network` of a family whose ControlNets have this format."""

    def build_network(
        base: Base,
        *,
        hint_channels: int,
        hint_start: str = GAUSSIAN,
        layers: int = 0,
        rank: int = 0,
        seed: int = 0,
        **_: Any,
    ) -> Network:
        """A fresh ControlNet, or a Control-LoRA; the other settings have their defaults."""
        check_hint_channels(format.family, "this condition", hint_channels)
        build = format.load_builder()
        network: Network = build(base.denoiser, layers=layers, hint_start=hint_start, seed=seed)
        if rank:
            theirs = {name: tensor.shape for name, tensor in base.denoiser.state_dict().items()}
            shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
            add_adapters(
                network,
                is_own=lambda name: (
                    theirs.get(format.base_name(network.config, name)) != shapes[name]
                ),
                rank=rank,
                seed=seed,
            )
        return network

    return build_network
