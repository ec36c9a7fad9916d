"""The memory and disk space that a run will need, estimated before it starts."""

from __future__ import annotations

from cnctl.models.base import Base
from cnctl.models.network import Network
from cnctl.models.quantize import quantized_bytes
from cnctl.settings import TrainSettings

MOMENT_BYTES = {"adamw": 8, "adamw8bit": 2}
"""Bytes of optimizer state per trained parameter."""
CHECKPOINTS_AT_ONCE = 3
"""The two that are kept, and the one that is being written."""


def expected_memory(base: Base, network: Network, *, settings: TrainSettings) -> int:
    """Bytes on the device, roughly: weights, gradients, optimizer state, activations.

    With `unfreeze_after`, the estimate is for the steps after it, with the denoiser in float32.
    """
    frozen = sum(
        quantized_bytes(part, "" if part is base.vae else base.quantized)
        for part in {base.vae, *base.parts.values()} - {network}
    )
    learner = 4 * sum(parameter.numel() for parameter in network.parameters())
    average = 4 if settings.ema else 0
    trained = trained_count(network, settings) + unfrozen_count(base, settings)
    learning = (4 + MOMENT_BYTES[settings.optimizer] + average) * trained
    if settings.unfreeze_after:
        widened = 4 - base.dtype.itemsize
        frozen += widened * sum(parameter.numel() for parameter in base.denoiser.parameters())
    pixels = (settings.resolution / base.latent_factor) ** 2
    each = base.family.activation_bytes(base.denoiser, settings.gradient_checkpointing)
    activations = settings.batch_size * pixels * each * base.dtype.itemsize
    return int(frozen + learner + learning + activations)


def expected_disk(base: Base, network: Network, *, settings: TrainSettings) -> int:
    """Bytes that a run's folder grows to, without its log and pictures."""
    unfrozen = unfrozen_count(base, settings)
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    weights = 4 * (learning + unfrozen)
    per_parameter = MOMENT_BYTES[settings.optimizer] + (4 if settings.ema else 0)
    state = per_parameter * (trained_count(network, settings) + unfrozen)
    return CHECKPOINTS_AT_ONCE * (weights + state) + weights


def unfrozen_count(base: Base, settings: TrainSettings) -> int:
    """Number of the base's parameters that `unfreeze_after` unfreezes."""
    if not settings.unfreeze_after:
        return 0
    unfrozen = base.family.parameters_to_unfreeze(base.denoiser, settings.unfreeze)
    return sum(parameter.numel() for parameter in unfrozen.values())


def trained_count(network: Network, settings: TrainSettings) -> int:
    """Number of the network's parameters that are trained."""
    trained = network.learning_parameters(connect=settings.connect)
    return sum(parameter.numel() for parameter in trained.values())
