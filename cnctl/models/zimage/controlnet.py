"""ControlNets of Z-Image: diffusers' `ZImageControlNetModel`, in the forms of VideoX-Fun.

The hint's latents become tokens, which layers copied from the base read beside the base's own
tokens: those of the image as its refiner leaves them, then those of the prompt. Everything before
these layers is the base's, and stays there: it is neither copied nor saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ZImageControlNetModel, ZImageTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from cnctl.models.quantize import floating_dtype
from cnctl.models.residuals import EncodedHint, Residuals
from cnctl.models.text_features import TextFeatures
from cnctl.models.transformer.network import LatentHintNetwork
from cnctl.models.transformer.starts import GAUSSIAN, start_hint
from cnctl.models.zimage.config import CONNECTED, NO_REFINER, PLAIN, base_name
from cnctl.models.zimage.predict import (
    padded_length,
    remaining_time,
    split_captions,
    split_images,
)
from cnctl.models.zimage.shape import PATCH_SIZE, check_same_shape

if TYPE_CHECKING:
    from cnctl.models.base import Base

PATCH = f"{PATCH_SIZE}-1"
SHARE = 5
"""One layer of so many is copied: 6 of the 30, as in the first published ControlNet."""


class ZImageControlNet(LatentHintNetwork, ZImageControlNetModel):
    """A ControlNet for one kind of hint, or a union, which does not read the kind."""

    runs_base_layers = True
    control_layers: Any
    control_noise_refiner: Any
    control_all_x_embedder: Any
    patchify: Callable[..., list[Tensor]]
    gradient_checkpointing = False
    """diffusers' class reads it, and sets none."""
    _gradient_checkpointing_func: Callable[..., Tensor]

    @property
    def residual_count(self) -> int:
        """One for each of its layers."""
        return len(self.control_layers)

    @property
    def reads_edit(self) -> bool:  # type: ignore[override]  # it depends on the weights
        """Whether a mask and the latents of an image come behind those of the hint."""
        return self.config.control_in_dim % 2 == 1  # see `inpainting_channels`

    @torch.no_grad()
    def encode_hint(self, base: Base, hint: Tensor) -> EncodedHint:
        """The latents of a hint, (B, C, h, w), or with a mask and an image's (B, 2 C + 1, h, w).

        Those are there where the hint (B, 7, H, W) has an image to fill in. What is filled in is
        grey, as diffusers' `ZImageControlNetInpaintPipeline` has it.
        """
        latents = super().encode_hint(base, hint[:, :3]).features
        if hint.shape[1] == 3:
            return EncodedHint(latents)
        colours, kept = hint[:, 3:6], (hint[:, 6:] >= 0.5).to(hint)
        image = base.family.latents.encode_hint(base, (2 * colours - 1) * kept)
        mask = F.interpolate(kept.to(latents), latents.shape[2:])
        return EncodedHint(torch.cat([latents, mask, image], dim=1))

    def check_fits(self, base: Base) -> None:
        """Raise CnctlError where it was made for other shapes."""
        check_same_shape(self.config, base.denoiser.config)

    def residuals(
        self,
        base: Base,
        latents: Tensor,
        timestep: Tensor,
        text: TextFeatures,
        hint: EncodedHint,
    ) -> Residuals:
        """What is added to the tokens (B, N, D), image before prompt, after the base's layers.

        latents: noisy, (B, C, h, w); timestep: () or (B,).
        """
        count, dtype = len(latents), base.denoiser.dtype
        added = self(
            base.denoiser,
            split_images(latents.to(dtype)),
            remaining_time(timestep, count),
            split_captions(text.to(dtype)),
            split_images(self._widened(hint.features.expand(count, -1, -1, -1))),
            refiner_scale=hint.scale,
        )
        rows, columns = (side // PATCH_SIZE for side in latents.shape[2:])
        # Of a longer prompt beside these in the batch, too.
        length = padded_length(rows * columns) + padded_length(text.tokens.shape[1])
        return Residuals(
            tuple(F.pad(one, (0, 0, 0, length - one.shape[1])) for one in added),
            grid=(rows, columns),
            blocks=tuple((place,) for place in self.config.control_layers_places),
        )

    def forward(
        self,
        transformer: ZImageTransformer2DModel,
        images: list[Tensor],
        time: Tensor,
        captions: list[Tensor],
        hints: list[Tensor],
        *,
        refiner_scale: float = 1.0,
    ) -> list[Tensor]:
        """As diffusers' class, with what it borrows of the transformer given: (B, N, D) each.

        images and hints: (C, 1, h, w) each; captions: (L, D) each; time: (B,) in [0, 1].
        refiner_scale: of what is added to the base's refiner.
        """
        adaln = transformer.t_embedder(time * transformer.t_scale).type_as(images[0])
        patches, words, _, places, word_places, padding, word_padding = (
            transformer.patchify_and_embed(images, captions, PATCH_SIZE, 1)
        )
        of_image = (places, padding, transformer.x_pad_token)
        image, positions, mask = _prepare(
            transformer, transformer.all_x_embedder[PATCH], patches, *of_image
        )
        hint, *_ = _prepare(
            transformer,
            self.control_all_x_embedder[PATCH],
            self.patchify(hints, PATCH_SIZE, 1),
            *of_image,
        )
        image, hint = self._refine(
            transformer, image, hint, (mask, positions, adaln), scale=refiner_scale
        )
        prompt, word_positions, word_mask = _prepare(
            transformer,
            transformer.cap_embedder,
            words,
            word_places,
            word_padding,
            transformer.cap_pad_token,
        )
        for layer in transformer.context_refiner:
            prompt = self._run(layer, prompt, word_mask, word_positions)
        lengths = [len(one) for one in words]
        unified, unified_positions, unified_mask = _unify(
            transformer, image, positions, prompt, word_positions, lengths
        )
        control, *_ = _unify(transformer, hint, positions, prompt, word_positions, lengths)
        for layer in self.control_layers:
            control = self._run(layer, control, unified, unified_mask, unified_positions, adaln)
        return list(control.unbind()[:-1])

    def learning_parameters(self, *, connect: str = "all") -> dict[str, nn.Parameter]:
        """All its own parameters."""
        return self.own_parameters()

    def _widened(self, hint: Tensor) -> Tensor:
        """With zeros for a mask and an image to fill in, where none is there."""
        missing = self.config.control_in_dim - hint.shape[1]
        weights = self.control_all_x_embedder[PATCH].weight
        return F.pad(hint, (0, 0, 0, 0, 0, missing)).to(weights.dtype)

    def _refine(
        self,
        transformer: ZImageTransformer2DModel,
        image: Tensor,
        hint: Tensor,
        given: tuple[Tensor | None, Tensor, Tensor],
        *,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        """The tokens of image and hint, through the base's refiner and the ControlNet's."""
        added: dict[int, Tensor] = {}
        if self.config.add_control_noise_refiner is PLAIN:
            for layer in self.control_noise_refiner:
                hint = self._run(layer, hint, *given)
        else:
            own = {NO_REFINER: self.control_layers, CONNECTED: self.control_noise_refiner}
            for layer in own[self.config.add_control_noise_refiner]:
                hint = self._run(layer, hint, image, *given)
            *residuals, hint = hint.unbind()
            places = self.config.control_refiner_layers_places
            added = dict(zip(places, residuals, strict=False))
        for number, layer in enumerate(transformer.noise_refiner):
            image = self._run(layer, image, *given)
            if number in added:
                image = image + added[number] * scale
        return image, hint

    def _run(self, layer: nn.Module, *tensors: Tensor | None) -> Tensor:
        """The layer's result in its own precision, which may be the base's or this network's."""
        dtype = floating_dtype(layer)
        given = [
            one.to(dtype) if one is not None and one.is_floating_point() else one for one in tensors
        ]
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(layer, *given)
        return layer(*given)


def build_controlnet(
    transformer: ZImageTransformer2DModel,
    *,
    layers: int = 0,
    hint_start: str = GAUSSIAN,
    seed: int = 0,
) -> ZImageControlNet:
    """A fresh ControlNet of the first published form, float32, on the transformer's device.

    Layers, refiner and embedder are the transformer's; the projections after the layers
    start from zero, so that it changes nothing. layers: to copy, evenly placed; 0 for one in five.
    hint_start: of the projection before them, see `start_hint`.
    """
    count = len(transformer.layers)
    layers = layers or max(1, count // SHARE)
    places = [number * count // layers for number in range(layers)]
    same = (
        *("all_patch_size", "all_f_patch_size", "dim", "n_refiner_layers"),
        *("n_heads", "n_kv_heads", "norm_eps", "qk_norm"),
    )
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = ZImageControlNet(
            control_layers_places=places,
            control_in_dim=transformer.config.in_channels,
            **{name: transformer.config[name] for name in same},
        )
    if transformer.device.type == "meta":
        return network
    network.to_empty(device=transformer.device)
    network.load_state_dict(_copied(transformer, network))
    start_hint(network.control_layers[0].before_proj, hint_start, seed=seed)
    return network


def _copied(transformer: ZImageTransformer2DModel, network: ZImageControlNet) -> dict[str, Tensor]:
    """The state of a fresh network: the transformer's where it has such a tensor, else zeros."""
    theirs = transformer.state_dict()

    def read(name: str, own: Tensor) -> Tensor:
        tensor = theirs.get(base_name(network.config, name))
        return torch.zeros_like(own) if tensor is None else tensor.float()

    return {name: read(name, own) for name, own in network.state_dict().items()}


def _prepare(
    transformer: ZImageTransformer2DModel,
    embed: Callable[[Tensor], Tensor],
    features: list[Tensor],
    places: list[Tensor],
    padding: list[Tensor],
    pad_token: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Tokens (B, N, D) with their positions, and a mask of them where some are as padding."""
    embedded = embed(torch.cat(features))
    tokens = embedded.split([len(one) for one in features])
    # A transformer whose blocks wait on the host has its own parameters there, too.
    pad_token = pad_token.to(embedded.device)
    prepared = transformer._prepare_sequence(
        list(tokens), places, padding, pad_token, device=embedded.device
    )
    return prepared[:3]


def _unify(
    transformer: ZImageTransformer2DModel,
    image: Tensor,
    positions: Tensor,
    prompt: Tensor,
    word_positions: Tensor,
    lengths: list[int],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Tokens of images, each with those of its prompt behind; see `_prepare`."""
    of_image = (image, positions, [image.shape[1]] * len(image), None)
    of_prompt = (prompt, word_positions, lengths, None)
    nothing = (None, None, None, None)
    made = transformer._build_unified_sequence(*of_image, *of_prompt, *nothing, False, image.device)
    return made[:3]
