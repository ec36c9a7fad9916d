"""Blockwise ControlNets of Qwen-Image: one block after each of the base's, which reads its tokens.

DiffSynth-Studio's form (`qwen_image_controlnet.py`, and `model_fn_qwen_image` for their place).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.normalization import RMSNorm
from torch import Tensor, nn
from torch.nn import functional

from cnctl.models.qwen.shape import check_same_blocks
from cnctl.models.residuals import EncodedHint, Residuals, TokenResidual
from cnctl.models.text_features import TextFeatures
from cnctl.models.transformer.network import LatentHintNetwork
from cnctl.models.transformer.packing import SIDE, pack

if TYPE_CHECKING:
    from cnctl.models.base import Base


class BlockwiseControlBlock(nn.Module):
    """What is added to the tokens of an image, from these and those of the hint."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.x_rms = RMSNorm(width, eps=1e-6)
        self.y_rms = RMSNorm(width, eps=1e-6)
        self.input_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, hint: Tensor) -> Tensor:
        """(B, N, D), of tokens (B, N, D) and a hint (1 or B, N, D)."""
        mixed = self.x_rms(tokens.to(hint.dtype)) + self.y_rms(hint)
        return self.output_proj(functional.gelu(self.input_proj(mixed)))


class QwenBlockwiseControlNet(LatentHintNetwork, ModelMixin, ConfigMixin):
    """A ControlNet for one kind of hint, with one block for each block of the base."""

    untrainable = "a blockwise ControlNet"
    reads_tokens = True

    @register_to_config
    def __init__(
        self,
        num_layers: int = 60,
        inner_dim: int = 3072,
        in_channels: int = 64,
        extra_condition_channels: int = 0,
    ) -> None:
        super().__init__()
        self.img_in = nn.Linear(in_channels + extra_condition_channels, inner_dim)
        self.controlnet_blocks = nn.ModuleList(
            BlockwiseControlBlock(inner_dim) for _ in range(num_layers)
        )

    @property
    def residual_count(self) -> int:
        """One for each block of the base."""
        return len(self.controlnet_blocks)

    @property
    def reads_mask(self) -> bool:
        """Whether tokens of the hint have the mask of their latents behind them."""
        return self.config.extra_condition_channels > 0

    def check_fits(self, base: Base) -> None:
        """Raise CnctlError where it was made for another family, or for other shapes."""
        check_same_blocks(self.config, base.denoiser.config)

    @torch.no_grad()
    def encode_hint(self, base: Base, hint: Tensor) -> EncodedHint:
        """The tokens (B, h w / 4, D) of a hint."""
        packed = pack(super().encode_hint(base, hint).features)
        return EncodedHint(self.img_in(packed.to(self.img_in.weight.dtype)))

    def residuals(
        self,
        base: Base,
        latents: Tensor,
        timestep: Tensor,
        text: TextFeatures,
        hint: EncodedHint,
    ) -> Residuals:
        """What is added to the tokens of the image after each block, as a function of these.

        latents: noisy, (B, C, h, w). It reads neither timestep nor text.
        """
        rows, columns = (side // SIDE for side in latents.shape[2:])
        return Residuals(
            tuple(
                TokenResidual(partial(block, hint=hint.features))
                for block in self.controlnet_blocks
            ),
            grid=(rows, columns),
            blocks=tuple((number,) for number in range(self.residual_count)),
        )
