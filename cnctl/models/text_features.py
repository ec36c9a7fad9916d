"""The features of a prompt that a U-Net reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

PictureSize = tuple[int, int, int, int, int, int]
"""What SDXL is told of a picture, in pixels: its height and width before it was cropped, top and
left of the crop, height and width that it was cropped to."""


@dataclass(frozen=True)
class TextFeatures:
    """Prompts as text encoders have read them, and SDXL's further inputs.

    tokens: (B, L, D), which the cross-attention reads. SDXL alone has the other two: pooled,
    (B, P), each prompt as a whole, and sizes, (B, 6), a `PictureSize` for each.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def of_pictures(self, sizes: Sequence[PictureSize]) -> TextFeatures:
        """The same for pictures of these sizes, where the family is told of them."""
        if self.pooled is None:
            return self
        return replace(self, sizes=torch.tensor(sizes, device=self.pooled.device))

    def second_half(self) -> TextFeatures:
        """Of the batch."""
        return self._each(lambda part: part.chunk(2)[1])

    def zeros(self) -> TextFeatures:
        """As many, all zero."""
        return self._each(torch.zeros_like)

    def to(self, dtype: torch.dtype) -> TextFeatures:
        """The same in another precision."""
        return self._each(lambda part: part.to(dtype))

    def added(self) -> dict[str, Tensor] | None:
        """What diffusers' networks call `added_cond_kwargs`; None where there is nothing."""
        if self.pooled is None or self.sizes is None:
            return None
        return {"text_embeds": self.pooled, "time_ids": self.sizes}

    def _each(self, change: Callable[[Tensor], Tensor]) -> TextFeatures:
        added = (None if part is None else change(part) for part in (self.pooled, self.sizes))
        return TextFeatures(change(self.tokens), *added)


def whole_picture(height: int, width: int) -> PictureSize:
    """The size of a picture that nothing was cropped from."""
    return height, width, 0, 0, height, width


def join(several: Sequence[TextFeatures]) -> TextFeatures:
    """One batch of several."""

    def joined(parts: list[Tensor | None]) -> Tensor | None:
        whole = [part for part in parts if part is not None]
        return torch.cat(whole) if whole else None

    return TextFeatures(
        torch.cat([one.tokens for one in several]),
        joined([one.pooled for one in several]),
        joined([one.sizes for one in several]),
    )
