"""What the ControlNets of U-Nets have in common: how their residuals are made and added."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from cnctl.errors import CnctlError
from cnctl.models.network import CONNECTIONS, CONTROLNET, Network
from cnctl.models.residuals import EncodedHint, Residuals
from cnctl.models.text_features import TextFeatures
from cnctl.models.unet.shape import check_same_shape

if TYPE_CHECKING:
    from cnctl.models.base import Base


class Branch(Network):
    """A diffusers ControlNet as a `Network`: a mixin for its class."""

    method = CONTROLNET
    replaces_base = False
    controlnet_cond_embedding: Any
    controlnet_down_blocks: Any

    @property
    def hint_channels(self) -> int:
        """Channels of the hint that it reads."""
        return self.config.conditioning_channels

    @property
    def residual_count(self) -> int:
        """One for each skip connection, and the middle block's."""
        return len(self.controlnet_down_blocks) + 1

    @property
    def conditional_only(self) -> bool:
        """As in the original, true where residuals are averaged over the image ("shuffle")."""
        return bool(self.config.global_pool_conditions)

    def to_json_string(self) -> str:
        """Return the config under the name of diffusers' class, so that it loads what is saved."""
        kinds = (kind for kind in type(self).__mro__ if kind.__module__.startswith("diffusers."))
        config = json.loads(super().to_json_string())  # type: ignore[misc]
        return json.dumps(config | {"_class_name": next(kinds).__name__}, indent=2) + "\n"

    def check_fits(self, base: Base) -> None:
        """Raise CnctlError where it was made for another family of bases."""
        check_same_shape(self.config, base.denoiser.config)

    def encode_hint(self, base: Base, hint: Tensor) -> EncodedHint:
        """The features (B, C, H / 8, W / 8) of a hint."""
        if self.config.controlnet_conditioning_channel_order == "bgr":
            hint = hint.flip(1)
        first = next(self.parameters())
        return EncodedHint(self.controlnet_cond_embedding(hint.to(first.device, first.dtype)))

    def residuals(
        self,
        base: Base,
        latents: Tensor,
        timestep: Tensor,
        text: TextFeatures,
        hint: Tensor | EncodedHint,
        *,
        connect: str = "all",
    ) -> Residuals:
        """Equation 2's second term at each skip connection and the middle block.

        latents: noisy, (B, C, h, w); timestep: () or (B,); hint: float (B or 1, hint_channels, H,
        W) in [0, 1], or encoded. connect: "all", or "middle" for the middle block alone (section
        3.4).
        """
        if connect not in CONNECTIONS:
            raise CnctlError(f"unknown connection {connect!r}", hint='use "all" or "middle"')
        dtype = next(self.parameters()).dtype
        text = text.to(dtype)
        if isinstance(hint, EncodedHint):
            # One hint for all images; a union would not broadcast it.
            features = hint.features.expand(len(latents), -1, -1, -1)
            condition: Any = EncodedHint(features.to(dtype))
        else:
            condition = hint.to(dtype)
        down, middle = self(
            latents.to(dtype),
            timestep,
            text.tokens,
            condition,
            added_cond_kwargs=text.added(),
            return_dict=False,
        )
        if connect == "middle":
            # The U-Net ignores a middle residual that comes without the others: give it zeros.
            down = [latents.new_zeros(())] * len(down)
        return Residuals((*down, middle))

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
        """ε_θ(z_t, t, c_t, c_f) of equation 10, (B, C, h, w)."""
        residuals = self.residuals(base, latents, timesteps, text, hint, connect=connect)
        return predict_noise(base.denoiser, latents, timesteps, text, residuals)

    def learning_parameters(self, *, connect: str = "all") -> dict[str, nn.Parameter]:
        """All its own parameters, or those that lead to the middle block."""
        unused = "controlnet_down_blocks." if connect == "middle" else None
        own = self.own_parameters()
        return {name: p for name, p in own.items() if not (unused and name.startswith(unused))}


def predict_noise(
    unet: UNet2DConditionModel,
    latents: Tensor,
    timestep: Tensor,
    text: TextFeatures,
    residuals: Residuals | None = None,
) -> Tensor:
    """ε_θ(z_t, t, c_t, c_f): what the U-Net predicts, (B, C, h, w), with control or without.

    Where the U-Net is locked, its encoder and middle block store nothing for the backward pass:
    gradient enters only where the residuals are added, which is after them.
    """
    dtype = next(unet.parameters()).dtype  # unet.dtype walks all modules to find this
    latents, text = latents.to(dtype), text.to(dtype)
    given = {"added_cond_kwargs": text.added(), "return_dict": False}
    if residuals is None:
        return unet(latents, timestep, text.tokens, **given)[0]
    *down, middle = (residual.to(dtype) for residual in residuals.tensors)
    return unet(
        latents,
        timestep,
        text.tokens,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
        **given,
    )[0]


def embed_time(
    network: Any, sample: Tensor, timestep: Tensor, added: dict[str, Tensor] | None
) -> Tensor:
    """The embedding (B, D) of a timestep and of SDXL's further inputs."""
    embedding = time_embedding(network, sample, timestep)
    if network.config.addition_embed_type != "text_time":
        return embedding
    return embedding + added_embedding(network, added or {}, embedding.dtype)


def time_embedding(network: Any, sample: Tensor, timestep: Tensor) -> Tensor:
    """The embedding (B, D) of a timestep () or (B,)."""
    timesteps = timestep.reshape(-1).to(sample.device).expand(len(sample))
    return network.time_embedding(network.time_proj(timesteps).to(sample.dtype))


def added_embedding(network: Any, added: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """The embedding (B, D) of a pooled text and a picture's sizes."""
    pooled, sizes = added["text_embeds"], added["time_ids"]
    times = network.add_time_proj(sizes.flatten()).reshape(len(pooled), -1)
    return network.add_embedding(torch.cat([pooled, times], dim=-1).to(dtype))


def run_encoder(
    network: Any, sample: Tensor, time: Tensor, tokens: Tensor
) -> tuple[list[Tensor], Tensor]:
    """The copied encoder and middle block, and after each a zero convolution: equation 8.

    sample: what follows the first convolution, with the hint's features added. Returns the
    residuals of the skip connections from the top, and the middle block's.
    """
    skips = [sample]
    for block in network.down_blocks:
        sample, further = _run_block(block, sample, time, tokens)
        skips += further
    sample = _run_block(network.mid_block, sample, time, tokens)
    down = [zero(skip) for zero, skip in zip(network.controlnet_down_blocks, skips, strict=True)]
    middle = network.controlnet_mid_block(sample)
    if network.config.global_pool_conditions:
        return [_average(residual) for residual in down], _average(middle)
    return down, middle


def _run_block(block: Any, sample: Tensor, time: Tensor, tokens: Tensor) -> Any:
    if getattr(block, "has_cross_attention", False):
        return block(sample, time, encoder_hidden_states=tokens)
    return block(sample, time)


def _average(residual: Tensor) -> Tensor:
    return residual.mean(dim=(2, 3), keepdim=True)
