"""The bytes of a base's weights and of ControlNets, counted without reading any weight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from cnctl.models.base import Base
from cnctl.models.quantize import LIBRARIES, quantized_bytes

HEADROOM = 2 * 2**30
"""Bytes for what networks compute with, on a device that holds their weights."""


@dataclass(frozen=True, kw_only=True)
class WeightBytes:
    """The bytes of the networks that make an image."""

    text_encoders: int
    denoiser: int
    controls: int
    autoencoder: int
    in_turn: bool = True
    """Whether the denoiser is read when the text encoders are released."""

    def at_once(self, device: torch.device, *, low_memory: bool) -> int:
        """The most that this device holds at the same time, as `on_device` moves networks."""
        base = self.text_encoders + self.denoiser + self.autoencoder
        if not low_memory:
            return base + self.controls
        if device.type == "cpu":  # text encoders are released before ControlNets are read
            first = self.text_encoders + (0 if self.in_turn else self.denoiser)
            return self.autoencoder + max(first, self.denoiser + self.controls)
        return max(self.text_encoders, self.denoiser + self.controls, self.autoencoder)


def count_weights(outline: Base, controls: Iterable[Path] = (), *, form: str = "") -> WeightBytes:
    """Of a base without weights, and of ControlNets by their headers, in the base's precision.

    form: of the base's linear layers, of `cnctl.models.quantize`; "" for none.
    """
    denoiser, *encoders = outline.parts.values()
    described = [outline.family.layout.describe(path) for path in controls]
    parameters = sum(one.merged or one.parameters for one in described)
    return WeightBytes(
        text_encoders=sum(quantized_bytes(encoder, form) for encoder in encoders),
        denoiser=quantized_bytes(denoiser, form),
        controls=parameters * outline.dtype.itemsize,
        autoencoder=quantized_bytes(outline.vae, ""),
        in_turn=not form,
    )


def ways_to_need_less(outline: Base, controls: Iterable[Path] = ()) -> dict[str, int]:
    """Flags of `cnctl generate`, and the bytes on the device with each."""
    paths = [*controls]
    plain, smallest = (count_weights(outline, paths, form=form) for form in ("", "nf4"))
    ways = {"--low-memory": plain.at_once(outline.device, low_memory=True)}
    for form in LIBRARIES:
        counted = count_weights(outline, paths, form=form)
        ways[f"--quantize {form}"] = counted.at_once(outline.device, low_memory=False)
    return ways | {"--low-memory --quantize nf4": smallest.at_once(outline.device, low_memory=True)}


def free_memory(device: torch.device) -> int:
    """Bytes that are free on this device, or on the host where it computes with the host's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
