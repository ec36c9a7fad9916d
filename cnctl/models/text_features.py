"""The features of a prompt that a denoiser reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

PictureSize = tuple[int, int, int, int, int, int]
"""What SDXL is given of a picture, in pixels: its height and width before it was cropped, top and
left of the crop, height and width that it was cropped to."""


@dataclass(frozen=True)
class TextFeatures:
    """Prompts as text encoders have read them, and what else a denoiser is given.

    tokens: (B, L, D), which attention reads. Some families have others: pooled, (B, P), each prompt
    as a whole; sizes, (B, 6), a `PictureSize` for each; mask, bool (B, L), the tokens that are not
    padding, None for all; guidance, float (B,), the scale that a distilled base is given.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None
    mask: Tensor | None = None
    guidance: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def of_pictures(self, sizes: Sequence[PictureSize]) -> TextFeatures:
        """The same for pictures of these sizes, where the family reads them."""
        if self.pooled is None:
            return self
        return replace(self, sizes=torch.tensor(sizes, device=self.pooled.device))

    def guided_by(self, scale: float | None) -> TextFeatures:
        """The same, with this scale of guidance; None where the base is not distilled."""
        if scale is None:
            return self
        return replace(self, guidance=self.tokens.new_full((len(self),), scale, dtype=torch.float))

    def second_half(self) -> TextFeatures:
        """Of the batch."""
        return self._of([part if part is None else part.chunk(2)[1] for part in self._parts()])

    def zeros(self) -> TextFeatures:
        """As many, all zero."""
        return self._each(torch.zeros_like)

    def to(self, dtype: torch.dtype) -> TextFeatures:
        """The same in another precision."""
        return self._each(lambda part: part.to(dtype))

    def padded(self, length: int) -> TextFeatures:
        """The same with so many tokens, of which the new ones are padding."""
        missing = length - self.tokens.shape[1]
        if not missing:
            return self
        tokens = F.pad(self.tokens, (0, 0, 0, missing))
        return replace(self, tokens=tokens, mask=F.pad(_mask(self), (0, missing)))

    def added(self) -> dict[str, Tensor] | None:
        """What diffusers' networks call `added_cond_kwargs`; None where there is nothing."""
        if self.pooled is None or self.sizes is None:
            return None
        return {"text_embeds": self.pooled, "time_ids": self.sizes}

    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.tokens, self.pooled, self.sizes, self.mask, self.guidance

    def _each(self, change: Callable[[Tensor], Tensor]) -> TextFeatures:
        """What the text encoders have read changed, and the sizes with it."""
        pooled, sizes = (None if p is None else change(p) for p in (self.pooled, self.sizes))
        return replace(self, tokens=change(self.tokens), pooled=pooled, sizes=sizes)

    @staticmethod
    def _of(parts: Sequence[Tensor | None]) -> TextFeatures:
        tokens, pooled, sizes, mask, guidance = parts
        assert tokens is not None
        return TextFeatures(tokens, pooled, sizes, mask, guidance)


def whole_picture(height: int, width: int) -> PictureSize:
    """The size of a picture that nothing was cropped from."""
    return height, width, 0, 0, height, width


def join(several: Sequence[TextFeatures]) -> TextFeatures:
    """One batch of several; the shorter ones are padded."""
    lengths = {one.tokens.shape[1] for one in several}
    padded = [one.padded(max(lengths)) for one in several]
    if any(one.mask is not None for one in padded):
        padded = [replace(one, mask=_mask(one)) for one in padded]
    columns = zip(*(one._parts() for one in padded), strict=True)
    return TextFeatures._of([_joined(column) for column in columns])


def _mask(text: TextFeatures) -> Tensor:
    if text.mask is not None:
        return text.mask
    return torch.ones(text.tokens.shape[:2], dtype=torch.bool, device=text.tokens.device)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    whole = [part for part in parts if part is not None]
    return torch.cat(whole) if whole else None
