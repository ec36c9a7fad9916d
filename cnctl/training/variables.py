"""Equation 10's variables for a batch: encoded from its examples, and drawn by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnctl.models.base import Base
from cnctl.models.network import hint_tensor
from cnctl.models.prompts import encode_prompts
from cnctl.models.text_features import TextFeatures
from cnctl.settings import TrainSettings
from cnctl.training.batch_sampler import DRAWN, DROPOUT
from cnctl.training.data_loader import Batch, torch_generator
from cnctl.training.encoding_cache import EncodingCache
from cnctl.training.loss import draw_noise


class Variables:
    """Draws what a loss is computed from. What is encoded comes from the cache, if there is one."""

    def __init__(
        self,
        base: Base,
        settings: TrainSettings,
        cache: EncodingCache | None,
        *,
        hint_channels: int,
    ) -> None:
        self._base, self._settings, self._cache = base, settings, cache
        self._hint_channels = hint_channels

    def draw(self, batch: Batch) -> dict[str, Any]:
        """The arguments of `noise_prediction_loss`, on the base's device.

        Each sample's are drawn by its own key, so that they do not depend on the others'.
        """
        base, seed = self._base, self._settings.seed
        # For dropout layers, if the base has any.
        torch.manual_seed(torch_generator(seed, DROPOUT, *batch.keys[0]).initial_seed())
        draws = [torch_generator(seed, DRAWN, *key) for key in batch.keys]
        latents = base.family.latents.draw(base, self._moments_of(batch.images), generator=draws)
        shape, offset = latents.shape[1:], self._settings.noise_offset
        noise = torch.stack([draw_noise(shape, draw, offset=offset) for draw in draws])
        density = self._settings.timestep_density
        timesteps = [base.process.draw_timestep(draw, density=density) for draw in draws]
        prompts = [
            "" if torch.rand((), generator=draw) < self._settings.prompt_dropout else prompt
            for prompt, draw in zip(batch.prompts, draws, strict=True)
        ]
        text = self._text_of(prompts).of_pictures(batch.sizes)
        return {
            "latents": latents,
            "text": text.guided_by(base.distilled_guidance),
            "hint": hint_tensor(batch.hints, channels=self._hint_channels).to(base.device),
            "timesteps": torch.cat(timesteps).to(base.device),
            "noise": noise.to(base.device),
        }

    def _moments_of(self, images: np.ndarray) -> Tensor:
        if self._cache:
            return self._cache.moments(images)
        return self._base.family.latents.encode(self._base, images)

    def _text_of(self, prompts: Sequence[str]) -> TextFeatures:
        return self._cache.text(prompts) if self._cache else encode_prompts(self._base, prompts)
