"""The ablation of figure 20: the hint as further channels of the U-Net's input, and no ControlNet.

The paper names "exactly same method with Stability's Depth-to-Image model": the hint is brought to
the latents' size and joined to them, the first convolution reads so many channels more, their
weights start from zero, and the whole U-Net is trained on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn
from torch.nn import functional as F

from cnctl.models.base import Base
from cnctl.models.input_concat_network import InputConcatNetwork
from cnctl.models.residuals import EncodedHint
from cnctl.models.save import save_network
from cnctl.models.unet.shape import check_same_shape


class InputConcatUNet(InputConcatNetwork, UNet2DConditionModel):
    """A U-Net that reads a hint beside the latents, in place of the base's."""

    @property
    def hint_channels(self) -> int:
        """Channels that it reads beside the latents."""
        return self.config.in_channels - self.config.out_channels

    def check_fits(self, base: Base) -> None:
        """Raise CnctlError where it was made from a base of another family."""
        own = dict(self.config) | {"in_channels": self.config.out_channels}
        check_same_shape(own, base.denoiser.config)

    def encode_hint(self, base: Base, hint: Tensor) -> EncodedHint:
        """The hint as it is: it is read beside the latents."""
        return EncodedHint(hint)

    def with_hint(self, hint: Tensor) -> nn.Module:
        """The U-Net with a hint (1 or B, hint_channels, H, W), which is resized to the latents."""
        return HintedUNet(self, hint)

    def save(
        self,
        target: Path,
        *,
        description: Mapping[str, Any],
        base_update: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a folder that `UNet2DConditionModel.from_pretrained` reads."""
        save_network(self, target, description=description)


def build_input_concat(unet: UNet2DConditionModel, *, hint_channels: int = 3) -> InputConcatUNet:
    """A trainable copy of a U-Net, float32, that reads a hint beside the latents.

    The new weights are zero, so until it is trained it predicts what the U-Net does.
    """
    wide = copy.deepcopy(unet).float().requires_grad_(True)
    old = wide.conv_in
    new = nn.Conv2d(
        old.in_channels + hint_channels,
        old.out_channels,
        old.kernel_size,
        padding=old.padding,
        device=old.weight.device,
    )
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        cast(Tensor, new.bias).copy_(old.bias)
    wide.conv_in = new
    wide.register_to_config(in_channels=new.in_channels)
    wide.__class__ = InputConcatUNet
    return wide


class HintedUNet(nn.Module):
    """A U-Net that reads a hint, with its hint: used as any base's U-Net is.

    hint: float (1 or B, hint_channels, H, W), as `hint_tensor` makes it; latents may be any
    multiple of B, as they are where guidance doubles a batch.
    """

    def __init__(self, unet: UNet2DConditionModel, hint: Tensor) -> None:
        super().__init__()
        self.unet = unet
        self.config = FrozenDict(unet.config | {"in_channels": unet.config.out_channels})
        self._hint = hint

    def forward(self, latents: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the U-Net's, of latents (n B, C, h, w)."""
        hint = F.interpolate(self._hint.to(latents), size=latents.shape[2:], mode="area")
        hint = hint.repeat(len(latents) // len(hint), 1, 1, 1)
        return self.unet(torch.cat([latents, hint], dim=1), *args, **kwargs)
