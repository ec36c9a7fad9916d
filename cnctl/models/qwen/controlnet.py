"""ControlNets of Qwen-Image: diffusers' `QwenImageControlNetModel`, whose hints are latents."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from diffusers import QwenImageControlNetModel, QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope
from torch import Tensor, nn

from cnctl.models.quantize import floating_dtype
from cnctl.models.qwen.shape import check_same_shape
from cnctl.models.residuals import EncodedHint, Residuals
from cnctl.models.text_features import TextFeatures
from cnctl.models.transformer.blocks import in_order, spread_evenly
from cnctl.models.transformer.copies import copy_of
from cnctl.models.transformer.network import LatentHintNetwork
from cnctl.models.transformer.packing import SIDE, pack, unpack
from cnctl.models.transformer.starts import GAUSSIAN, start_hint

if TYPE_CHECKING:
    from cnctl.models.base import Base

LAYERS = 5
"""Blocks of a fresh ControlNet, as in InstantX's union."""
IDLE = ("txt_mlp.", "attn.to_add_out.", "attn.add_q_proj.", "attn.norm_added_q.")
"""Layers whose results are text: nobody reads those of the last block, and no gradient comes."""


class QwenControlNet(LatentHintNetwork, QwenImageControlNetModel):
    """A ControlNet for one kind of hint."""

    controlnet_blocks: Any

    @functools.wraps(QwenImageControlNetModel.__init__)  # type: ignore[misc]  # it has its parameters
    def __init__(self, *args: Any, **config: Any) -> None:
        super().__init__(*args, **config)
        with torch.device("cpu"):  # no file holds its table, so none may be on the meta device
            self.pos_embed = QwenEmbedRope(
                theta=10000, axes_dim=list(self.config.axes_dims_rope), scale_rope=True
            )

    @property
    def residual_count(self) -> int:
        """One for each of its blocks."""
        return len(self.controlnet_blocks)

    def check_fits(self, base: Base) -> None:
        """Raise CnctlError where it was made for another family, or for other shapes."""
        check_same_shape(self.config, base.denoiser.config)

    @property
    def reads_mask(self) -> bool:
        """Whether tokens of the hint have the mask of their latents behind them."""
        return self.config.extra_condition_channels > 0

    def encode_hint(self, base: Base, hint: Tensor) -> EncodedHint:
        """The packed latents (B, h w / 4, 4 C) of a hint."""
        return EncodedHint(pack(super().encode_hint(base, hint).features))

    def residuals(
        self,
        base: Base,
        latents: Tensor,
        timestep: Tensor,
        text: TextFeatures,
        hint: EncodedHint,
    ) -> Residuals:
        """What is added to the tokens of the image (B, N, D) after the base's blocks.

        latents: noisy, (B, C, h, w); timestep: () or (B,).
        """
        dtype = next(self.parameters()).dtype
        samples = self(
            controlnet_cond=hint.features.expand(len(latents), -1, -1).to(dtype),
            **_inputs(latents.to(dtype), timestep, text.to(dtype)),
        )
        rows, columns = (side // SIDE for side in latents.shape[2:])
        blocks = spread_evenly(len(samples), len(base.denoiser.transformer_blocks))
        return Residuals(tuple(samples), grid=(rows, columns), blocks=blocks)

    def learning_parameters(self, *, connect: str = "all") -> dict[str, nn.Parameter]:
        """All but those of its last block that only text depends on."""
        last = f"transformer_blocks.{self.residual_count - 1}."
        idle = tuple(last + name for name in IDLE)
        return {n: p for n, p in self.own_parameters().items() if not n.startswith(idle)}


def predict_velocity(
    transformer: Any,
    latents: Tensor,
    timestep: Tensor,
    text: TextFeatures,
    residuals: Residuals | None = None,
) -> Tensor:
    """The velocity (B, C, h, w) that the transformer predicts, with control or without."""
    dtype = floating_dtype(transformer)
    added = in_order(residuals, len(transformer.transformer_blocks), dtype=dtype)
    tokens = transformer(
        controlnet_block_samples=added, **_inputs(latents.to(dtype), timestep, text.to(dtype))
    )[0]
    return unpack(tokens, *latents.shape[2:])


def build_controlnet(
    transformer: QwenImageTransformer2DModel,
    *,
    layers: int = 0,
    hint_start: str = GAUSSIAN,
    seed: int = 0,
) -> QwenControlNet:
    """A fresh ControlNet: the transformer's embedders and first blocks, float32, on its device.

    What connects the blocks to the base starts from zero, so that it changes nothing. hint_start:
    see `start_hint`. layers: blocks to copy; 0 for five, or for half of a smaller base's.
    """
    layers = layers or min(LAYERS, max(1, len(transformer.transformer_blocks) // 2))
    network = copy_of(transformer, QwenControlNet, seed=seed, num_layers=layers)
    start_hint(network.controlnet_x_embedder, hint_start, seed=seed)
    return network


def _inputs(latents: Tensor, timestep: Tensor, text: TextFeatures) -> dict[str, Any]:
    """What both networks read."""
    rows, columns = (side // SIDE for side in latents.shape[2:])
    return {
        "hidden_states": pack(latents),
        "encoder_hidden_states": text.tokens,
        "encoder_hidden_states_mask": text.mask,
        "timestep": timestep.to(latents.dtype).expand(len(latents)) / 1000,
        "img_shapes": [(1, rows, columns)] * len(latents),
        "return_dict": False,
    }
