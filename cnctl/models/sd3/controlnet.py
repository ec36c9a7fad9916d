"""ControlNets of SD3: diffusers' `SD3ControlNetModel`, whose hints are latents.

Published ones have three forms, which their configs distinguish. InstantX's reads text, a pooled
text of zeros, and hints whose latents are not shifted. The same with the true pooled text and
shifted latents. Stability's for SD3.5 large reads no text, and sees latents through the position
embedding of the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import SD3ControlNetModel, SD3Transformer2DModel
from torch import Tensor, nn

from cnctl.models.quantize import floating_dtype
from cnctl.models.residuals import EncodedHint, Residuals
from cnctl.models.sd3.architecture import COMPUTED
from cnctl.models.sd3.shape import check_same_shape
from cnctl.models.text_features import TextFeatures
from cnctl.models.transformer.blocks import in_order, spread
from cnctl.models.transformer.copies import copy_of
from cnctl.models.transformer.network import LatentHintNetwork
from cnctl.models.transformer.starts import GAUSSIAN, start_hint

if TYPE_CHECKING:
    from cnctl.models.base import Base

IDLE = ("ff_context.", "attn.to_add_out.", "attn.add_q_proj.", "attn.norm_added_q.")
"""Layers whose results are text: nobody reads those of the last block, and no gradient comes."""


class Sd3ControlNet(LatentHintNetwork, SD3ControlNetModel):
    """A ControlNet for one kind of hint."""

    computed = COMPUTED
    controlnet_blocks: Any
    pos_embed: Any
    pos_embed_input: Any
    context_embedder: Any

    @property
    def residual_count(self) -> int:
        """One for each of its blocks."""
        return len(self.controlnet_blocks)

    def check_fits(self, base: Base) -> None:
        """Raise CnctlError where it was made for another family, or for other shapes."""
        check_same_shape(self.config, base.denoiser.config)

    @property
    def hints_are_shifted(self) -> bool:
        """Not those of InstantX's form, but where it reads a mask."""
        return self.reads_mask or not self.config.force_zeros_for_pooled_projection

    @property
    def runs_base_layers(self) -> bool:  # type: ignore[override]  # it depends on the weights
        """True if it lacks a position embedding and runs the base's."""
        return self.pos_embed is None

    @property
    def reads_mask(self) -> bool:
        """Whether latents of the hint have a mask behind them, as alimama's do."""
        return self.config.extra_conditioning_channels > 0

    def residuals(
        self,
        base: Base,
        latents: Tensor,
        timestep: Tensor,
        text: TextFeatures,
        hint: EncodedHint,
    ) -> Residuals:
        """What is added to the tokens (B, N, D) after the base's blocks.

        latents: noisy, (B, C, h, w); timestep: () or (B,).
        """
        dtype = next(self.parameters()).dtype
        text, count = text.to(dtype), len(latents)
        assert text.pooled is not None
        # diffusers' pipeline for inpainting gives zeros to any.
        zeros = self.reads_mask or self.config.force_zeros_for_pooled_projection
        [samples] = self(
            self._embedded(base, latents).to(dtype),
            hint.features.expand(count, -1, -1, -1).to(dtype),
            encoder_hidden_states=text.tokens if self.context_embedder is not None else None,
            pooled_projections=torch.zeros_like(text.pooled) if zeros else text.pooled,
            timestep=timestep.expand(count),
            return_dict=False,
        )
        rows, columns = (side // self.config.patch_size for side in latents.shape[2:])
        blocks = spread(len(samples), len(base.denoiser.transformer_blocks))
        return Residuals(tuple(samples), grid=(rows, columns), blocks=blocks)

    def learning_parameters(self, *, connect: str = "all") -> dict[str, nn.Parameter]:
        """All but those of its last block that only text depends on."""
        last = f"transformer_blocks.{self.residual_count - 1}."
        idle = tuple(last + name for name in IDLE)
        return {n: p for n, p in self.own_parameters().items() if not n.startswith(idle)}

    def _embedded(self, base: Base, latents: Tensor) -> Tensor:
        """What the network reads: latents, or tokens by the base's own embedding."""
        if self.pos_embed is not None:
            return latents
        return base.denoiser.pos_embed(latents.to(base.dtype))


def predict_velocity(
    transformer: Any,
    latents: Tensor,
    timestep: Tensor,
    text: TextFeatures,
    residuals: Residuals | None = None,
) -> Tensor:
    """The velocity (B, C, h, w) that the transformer predicts, with control or without."""
    dtype = floating_dtype(transformer)
    text = text.to(dtype)
    return transformer(
        latents.to(dtype),
        encoder_hidden_states=text.tokens,
        pooled_projections=text.pooled,
        timestep=timestep.expand(len(latents)),
        block_controlnet_hidden_states=in_order(
            residuals, len(transformer.transformer_blocks), dtype=dtype
        ),
        return_dict=False,
    )[0]


def build_controlnet(
    transformer: SD3Transformer2DModel,
    *,
    layers: int = 0,
    hint_start: str = GAUSSIAN,
    seed: int = 0,
) -> Sd3ControlNet:
    """A fresh ControlNet: the transformer's embedders and first blocks, float32, on its device.

    What connects the blocks to the base starts from zero, so that it changes nothing. hint_start:
    see `start_hint`. layers: blocks to copy, less than the transformer has; 0 for half of them. It
    has InstantX's form, for which other programs take every such ControlNet.
    """
    layers = layers or max(1, len(transformer.transformer_blocks) // 2)
    dual = transformer.config.get("dual_attention_layers", ())
    own = tuple(block for block in dual if block < layers)
    network = copy_of(
        transformer, Sd3ControlNet, seed=seed, num_layers=layers, dual_attention_layers=own
    )
    start_hint(network.pos_embed_input.proj, hint_start, seed=seed)
    return network
