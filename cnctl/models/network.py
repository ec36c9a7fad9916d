"""How control is attached to a base: beside it, as a ControlNet, or through the U-Net's input.

A network of either kind is trained by the same loop and sampled from by the same one; what differs
stands here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from cnctl.models.base import Base
from cnctl.models.control import Control
from cnctl.models.text_features import TextFeatures
from cnctl.models.unet.controlnet import control_residuals, predict_noise
from cnctl.models.unet.input_concat import HintedUNet
from cnctl.models.unet.union import OneKind

METHODS = ("controlnet", "input-concat")

Network: TypeAlias = ControlNetModel | OneKind | UNet2DConditionModel
"""A ControlNet, a union as one, or by "input-concat" a U-Net in place of the base's."""


def hint_channels(network: Network) -> int:
    """Channels of the hint that it reads."""
    if isinstance(network, UNet2DConditionModel):
        return network.config.in_channels - network.config.out_channels
    return network.config.conditioning_channels


def predict_controlled(
    base: Base,
    network: Network,
    latents: Tensor,
    timesteps: Tensor,
    text: TextFeatures,
    hint: Tensor,
    *,
    connect: str = "all",
) -> Tensor:
    """ε_θ(z_t, t, c_t, c_f) of equation 10, (B, C, h, w). connect: of a ControlNet's links."""
    if isinstance(network, UNet2DConditionModel):
        return predict_noise(HintedUNet(network, hint), latents, timesteps, text)
    residuals = control_residuals(network, latents, timesteps, text, hint, connect=connect)
    return predict_noise(base.unet, latents, timesteps, text, residuals)


def attach(base: Base, network: Network, hint: Tensor, **acts: Any) -> tuple[Base, list[Control]]:
    """What to sample from and by which controls. acts: how a ControlNet acts, see `Control`."""
    if isinstance(network, UNet2DConditionModel):
        return replace(base, unet=HintedUNet(network, hint)), []
    return base, [Control(network, hint, **acts)]
