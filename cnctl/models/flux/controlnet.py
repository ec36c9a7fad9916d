"""ControlNets of FLUX.1: diffusers' `FluxControlNetModel`.

Published ones have three forms, which their configs distinguish. Most read hints as latents.
Unions of InstantX read the kind of hint too, as a token of text. XLabs' read pixels by a small
encoder, and their residuals repeat over the base's blocks.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import torch
from diffusers import FluxControlNetModel, FluxTransformer2DModel
from torch import Tensor, nn

from cnctl.models.flux.places import image_ids, text_ids
from cnctl.models.flux.shape import check_same_shape
from cnctl.models.quantize import floating_dtype
from cnctl.models.residuals import EncodedHint, Residuals
from cnctl.models.text_features import TextFeatures
from cnctl.models.transformer.blocks import Blocks, in_order, owned, spread_evenly
from cnctl.models.transformer.copies import copy_of
from cnctl.models.transformer.network import LatentHintNetwork
from cnctl.models.transformer.packing import SIDE, pack, unpack
from cnctl.models.transformer.starts import GAUSSIAN, start_hint

if TYPE_CHECKING:
    from cnctl.models.base import Base

LAYERS = 6
"""Blocks of a fresh ControlNet, as in Shakker's Union-Pro-2.0."""
GUIDANCE = 3.5
"""What a ControlNet that reads a scale of guidance is given beside a base that reads none."""
IDLE = ("ff_context.", "attn.to_add_out.", "attn.add_q_proj.", "attn.norm_added_q.")
"""Layers whose results are text: where no block follows, no gradient comes."""


class FluxControlNet(LatentHintNetwork, FluxControlNetModel):
    """A ControlNet for one kind of hint."""

    @functools.wraps(FluxControlNetModel.__init__)  # type: ignore[misc]  # it has its parameters
    def __init__(self, *args: Any, **config: Any) -> None:
        with warnings.catch_warnings():  # of a name that diffusers itself imports
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__(*args, **config)

    controlnet_blocks: Any
    controlnet_single_blocks: Any
    input_hint_block: Any

    @property
    def residual_count(self) -> int:
        """One for each of its blocks: those of two streams, then those of one."""
        return len(self.controlnet_blocks) + len(self.controlnet_single_blocks)

    def check_fits(self, base: Base) -> None:
        """Raise CnctlError where it was made for another family, or for other shapes."""
        check_same_shape(self.config, base.denoiser.config)

    def encode_hint(self, base: Base, hint: Tensor) -> EncodedHint:
        """The packed latents (B, h w / 4, 4 C) of a hint; of XLabs' form its pixels in [-1, 1]."""
        if self.input_hint_block is not None:
            return EncodedHint(2 * hint.clamp(min=0).to(base.device) - 1)
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
        latents, text = latents.to(dtype), text.to(dtype)
        count = len(latents)
        double, single = self(
            pack(latents),
            hint.features.expand(count, *hint.features.shape[1:]).to(dtype),
            controlnet_mode=self._mode(latents) if self.union else None,
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
            timestep=timestep.to(dtype).expand(count) / 1000,
            guidance=self._guidance(text) if self.config.guidance_embeds else None,
            img_ids=image_ids(latents),
            txt_ids=text_ids(text.tokens),
            return_dict=False,
        )
        rows, columns = (side // SIDE for side in latents.shape[2:])
        return Residuals(
            (*(double or ()), *(single or ())),
            grid=(rows, columns),
            blocks=self._blocks(base.denoiser),
        )

    def learning_parameters(self, *, connect: str = "all") -> dict[str, nn.Parameter]:
        """All but those of its last block that only text depends on, where no block follows."""
        own = self.own_parameters()
        if len(self.controlnet_single_blocks):
            return own
        last = f"transformer_blocks.{len(self.controlnet_blocks) - 1}."
        idle = tuple(last + name for name in IDLE)
        return {name: p for name, p in own.items() if not name.startswith(idle)}

    def _blocks(self, transformer: Any) -> Blocks:
        """After which of the base's blocks each residual is added; those of one stream are last."""
        double, single = len(self.controlnet_blocks), len(self.controlnet_single_blocks)
        first = len(transformer.transformer_blocks)
        if self.input_hint_block is not None:
            owners = [block % double for block in range(first)]
            return owned(owners, double)
        others = spread_evenly(single, len(transformer.single_transformer_blocks), first=first)
        return spread_evenly(double, first) + others

    def _mode(self, latents: Tensor) -> Tensor:
        """The kind of hint, (B, 1)."""
        assert self.control_type is not None  # else the weights did not fit
        return torch.full((len(latents), 1), self.control_type, device=latents.device)

    def _guidance(self, text: TextFeatures) -> Tensor:
        if text.guidance is not None:
            return text.guidance.to(text.tokens)
        return text.tokens.new_full((len(text),), GUIDANCE)


def predict_velocity(
    transformer: Any,
    latents: Tensor,
    timestep: Tensor,
    text: TextFeatures,
    residuals: Residuals | None = None,
) -> Tensor:
    """The velocity (B, C, h, w) that the transformer predicts, with control or without."""
    dtype = floating_dtype(transformer)
    latents, text = latents.to(dtype), text.to(dtype)
    double, single = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
    tokens = transformer(
        pack(latents),
        encoder_hidden_states=text.tokens,
        pooled_projections=text.pooled,
        timestep=timestep.to(dtype).expand(len(latents)) / 1000,
        guidance=None if text.guidance is None else text.guidance.to(dtype),
        img_ids=image_ids(latents),
        txt_ids=text_ids(text.tokens),
        controlnet_block_samples=in_order(residuals, double, dtype=dtype),
        controlnet_single_block_samples=in_order(residuals, single, dtype=dtype, first=double),
        return_dict=False,
    )[0]
    return unpack(tokens, *latents.shape[2:])


def build_controlnet(
    transformer: FluxTransformer2DModel,
    *,
    layers: int = 0,
    hint_start: str = GAUSSIAN,
    seed: int = 0,
) -> FluxControlNet:
    """A fresh ControlNet: the transformer's embedders and first blocks, float32, on its device.

    What connects the blocks to the base starts from zero, so that it changes nothing. hint_start:
    see `start_hint`. layers: blocks of two streams to copy; 0 for six, or for half of a smaller
    base's.
    """
    layers = layers or min(LAYERS, max(1, len(transformer.transformer_blocks) // 2))
    network = copy_of(
        transformer, FluxControlNet, seed=seed, num_layers=layers, num_single_layers=0
    )
    start_hint(network.controlnet_x_embedder, hint_start, seed=seed)
    return network
