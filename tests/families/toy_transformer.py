"""A made-up family of transformers at toy size: what a new family has to bring, and no more.

Stable Diffusion 3's transformer and ControlNet of diffusers, one text encoder, flow matching. Its
hints are latents, its residuals tokens: everything that U-Nets do otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3ControlNetModel, SD3Transformer2DModel
from torch import Tensor, nn

from cnctl.models.base import Base, lock
from cnctl.models.control import Control
from cnctl.models.family import Family
from cnctl.models.latents import KLLatents
from cnctl.models.network import CONTROLNET, Network
from cnctl.models.process import FlowMatching
from cnctl.models.prompts import PromptOptions
from cnctl.models.residuals import EncodedHint, Residuals
from cnctl.models.text_features import TextFeatures

LAYERS = 2


class ToyControlNet(Network, SD3ControlNetModel):
    """SD3's ControlNet as a `Network`."""

    method = CONTROLNET
    replaces_base = False
    is_trainable = True
    export_name = "controlnet"
    hint_channels = 3
    conditional_only = False

    @property
    def residual_count(self) -> int:
        return len(self.controlnet_blocks)

    def check_fits(self, base: Base) -> None:
        assert base.family.name == TOY.name

    def encode_hint(self, base: Base, hint: Tensor) -> EncodedHint:
        moments = base.vae.encode(hint.to(base.device) * 2 - 1).latent_dist.parameters
        return EncodedHint(base.family.latents.draw(base, moments, generator=None))

    def residuals(
        self, latents: Tensor, timestep: Tensor, text: TextFeatures, hint: EncodedHint
    ) -> Residuals:
        [samples] = self(
            latents,
            hint.features.expand(len(latents), -1, -1, -1),
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
            timestep=timestep.expand(len(latents)),
            return_dict=False,
        )
        rows, columns = (side // self.config.patch_size for side in latents.shape[2:])
        return Residuals(tuple(samples), grid=(rows, columns))

    def predict(
        self,
        base: Base,
        latents: Tensor,
        timesteps: Tensor,
        text: TextFeatures,
        hint: Tensor,
        *,
        connect: str = "all",
    ) -> Tensor:
        residuals = self.residuals(latents, timesteps, text, self.encode_hint(base, hint))
        return predict(base.denoiser, latents, timesteps, text, residuals)

    def attach(self, base: Base, hint: Tensor, **acts: Any) -> tuple[Base, list[Control]]:
        return base, [Control(self, hint, **acts)]

    def learning_parameters(self, *, connect: str = "all") -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def save(
        self,
        target: Path,
        *,
        description: Mapping[str, Any],
        base_update: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.save_pretrained(target)


class ToyPrompts:
    """One text encoder; the mean of its tokens stands for the prompt as a whole."""

    def encode(
        self, base: Base, prompt: str, *, chunks: int, options: PromptOptions
    ) -> TextFeatures:
        model, tokenizer = base.text_encoders[0]
        read = tokenizer([prompt], padding="max_length", truncation=True, return_tensors="pt")
        tokens = model(read.input_ids).last_hidden_state
        return TextFeatures(tokens, pooled=tokens.mean(1))

    def count_chunks(self, base: Base, prompts: Sequence[str], *, options: PromptOptions) -> int:
        return 1

    def chunk_size(self, base: Base) -> int:
        return base.text_encoders[0].tokenizer.model_max_length - 2

    def most_clip_skip(self, base: Base) -> int:
        return 1


def predict(
    transformer: nn.Module,
    latents: Tensor,
    timestep: Tensor,
    text: TextFeatures,
    residuals: Residuals | None = None,
) -> Tensor:
    """The velocity (B, C, h, w)."""
    return transformer(
        latents,
        encoder_hidden_states=text.tokens,
        pooled_projections=text.pooled,
        timestep=timestep.expand(len(latents)),
        block_controlnet_hidden_states=list(residuals.tensors) if residuals else None,
        return_dict=False,
    )[0]


def build_network(base: Base, *, seed: int = 0, **_: Any) -> ToyControlNet:
    """A ControlNet of the transformer's own first blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ToyControlNet.from_transformer(
            base.denoiser, num_layers=1, num_extra_conditioning_channels=0
        )


def refuse(*_: Any, **__: Any) -> Any:
    """For what this family has no files of."""
    raise NotImplementedError


TOY = Family(
    name="toy transformer",
    part="transformer",
    latents=KLLatents(),
    prompts=ToyPrompts(),
    load_base=refuse,
    predict=predict,
    build_network=build_network,
    open_network=refuse,
    check_weights=refuse,
    find_weights=refuse,
    weights_file=refuse,
    parameters_to_unfreeze=lambda denoiser, part: dict(denoiser.named_parameters()),
    blocks_before_control=lambda denoiser: [],
    activation_bytes=lambda denoiser, checkpointing: 1.0,
    read_lora=refuse,
    read_embedding=refuse,
    add_embedding=refuse,
)


def toy_base(unet_base: Base) -> Base:
    """A random transformer beside the autoencoder and the text encoder of another base."""
    width = unet_base.text_encoders[0].model.config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=LAYERS,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=width,
            pooled_projection_dim=width,
            pos_embed_max_size=16,
        )
    return replace(
        unet_base,
        name="toy",
        family=TOY,
        denoiser=lock(transformer),
        process=FlowMatching(FlowMatchEulerDiscreteScheduler(shift=3.0)),
    )
