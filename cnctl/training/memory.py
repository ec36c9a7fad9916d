"""Ways to save memory, and the hint when a run has none left."""

from __future__ import annotations

import torch

from cnctl.models.base import Base
from cnctl.models.network import Network
from cnctl.settings import TrainSettings
from cnctl.training.frozen_conv import use_frozen_convs


def save_memory(base: Base, network: Network, settings: TrainSettings) -> None:
    """Apply the settings that trade time for memory, and faster layouts; results stay the same."""
    use_frozen_convs(base.denoiser)
    if settings.lora:
        use_frozen_convs(network)
    if settings.gradient_checkpointing:
        base.denoiser.enable_gradient_checkpointing()
        # The frozen encoder saves nothing anyway; checkpointing would save its blocks' inputs.
        for block in base.family.blocks_before_control(base.denoiser):
            block.gradient_checkpointing = False
        network.enable_gradient_checkpointing()
    for one in {base.denoiser, network}:
        if settings.channels_last:
            one.to(memory_format=torch.channels_last)
        if settings.compile:
            one.compile()


def how_to_take_less(settings: TrainSettings) -> str:
    batch = settings.batch_size * settings.gradient_accumulation
    ways = {
        "--gradient-checkpointing": not settings.gradient_checkpointing,
        f"--batch-size 1 --gradient-accumulation {batch}": settings.batch_size > 1,
        "another device": True,
    }
    return (
        f"run again with --resume and {', or '.join(way for way, open_ in ways.items() if open_)}"
    )
