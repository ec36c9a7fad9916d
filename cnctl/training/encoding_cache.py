"""Encoded images, hints and prompts, kept on disk between epochs and runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from cnctl.errors import writing
from cnctl.models.base import Base
from cnctl.models.prompts import encode_prompts
from cnctl.models.text_features import TextFeatures, join
from cnctl.system.atomic import atomic_file


class EncodingCache:
    """Moments of the autoencoder's posterior, latents of hints, and text features, each in a file.

    A file is named by the sha256 of what went in: the pixels or the prompt, and the weights that
    read them. So one folder serves any number of runs, also at once, and outlives none of its
    truth. Files appear whole or not at all; a damaged one is made again. Everything is encoded one
    by one, so that an entry does not depend on the batch that asked first.
    """

    def __init__(self, folder: Path, base: Base) -> None:
        self._folder = folder
        self._base = base

    def moments(self, images: np.ndarray) -> Tensor:
        """Moments of the autoencoder's posterior (B, 2 C, h, w) for images uint8 (B, H, W, 3)."""
        return torch.cat([self._moments_of(image) for image in images])

    def hint_latents(self, pixels: Tensor, *, shifted: bool) -> Tensor:
        """The latents that the family's `encode_hint` returns for pixels (B, 3, H, W)."""
        return torch.cat([self._hint_latents_of(one[None], shifted) for one in pixels])

    def keep_hints(self, base: Base) -> Base:
        """The base with an autoencoder that reads each hint once."""
        latents = _KnownHints(base.family.latents, self)
        return replace(base, family=replace(base.family, latents=latents))

    def text(self, prompts: Sequence[str]) -> TextFeatures:
        """The features that `encode_prompts` returns for these prompts."""
        return join([self._text_of(prompt) for prompt in prompts])

    def _moments_of(self, image: np.ndarray) -> Tensor:
        pixels = np.ascontiguousarray(image)
        key = _key(b"moments", self._vae, repr(pixels.shape).encode(), pixels.tobytes())
        encode = self._base.family.latents.encode
        made = self._recall(key, lambda: {"moments": encode(self._base, pixels[None])})
        return made["moments"]

    def _hint_latents_of(self, pixels: Tensor, shifted: bool) -> Tensor:
        shape = repr(tuple(pixels.shape)).encode()
        content = pixels.detach().cpu().contiguous().numpy().tobytes()
        key = _key(b"hint", self._vae, bytes([shifted]), shape, content)
        encode = self._base.family.latents.encode_hint
        made = self._recall(key, lambda: {"latents": encode(self._base, pixels, shifted=shifted)})
        return made["latents"]

    def _text_of(self, prompt: str) -> TextFeatures:
        key = _key(b"text", self._text_encoders, prompt.encode("utf-8", "surrogatepass"))
        return TextFeatures(**self._recall(key, lambda: self._encode(prompt)))

    def _encode(self, prompt: str) -> dict[str, Tensor]:
        made = encode_prompts(self._base, [prompt])
        return {"tokens": made.tokens} | ({} if made.pooled is None else {"pooled": made.pooled})

    @cached_property
    def _vae(self) -> bytes:
        return _fingerprint(self._base.vae)

    @cached_property
    def _text_encoders(self) -> bytes:
        base = self._base
        parts = [
            _fingerprint(model) + repr(sorted(tokenizer.get_vocab().items())).encode()
            for model, tokenizer in base.text_encoders
        ]
        return _key(*parts, bytes([base.zeros_for_empty_prompt])).encode()

    def _recall(self, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        path = self._folder / key[:2] / f"{key}.safetensors"
        try:
            found = load(path.read_bytes())
            return {name: tensor.to(self._base.device) for name, tensor in found.items()}
        except (FileNotFoundError, NotADirectoryError, SafetensorError):
            # Contiguous, as it is read: the last bits of what follows depend on it.
            made = {name: tensor.contiguous() for name, tensor in make().items()}
        _write(path, save({name: tensor.cpu() for name, tensor in made.items()}))
        return made


class _KnownHints:
    """The `Latents` of a family, but that hints come from a cache."""

    def __init__(self, latents: Any, cache: EncodingCache) -> None:
        self._latents = latents
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._latents, name)

    def encode_hint(self, base: Base, pixels: Tensor, *, shifted: bool = True) -> Tensor:
        return self._cache.hint_latents(pixels, shifted=shifted)


def _key(*parts: bytes) -> str:
    """A hash of the parts, each with its length, so that none can pass for another."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()


def _fingerprint(module: nn.Module) -> bytes:
    """A hash of weights and their precision."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.digest()


def _write(path: Path, content: bytes) -> None:
    hint = "free some space or choose another --cache, then run it again with --resume"
    with (
        writing(path.parent.parent, hint=hint),
        atomic_file(path, overwrite=True, durable=False) as file,
    ):
        file.write(content)
