"""Prompts as FLUX.1 reads them: T5's last layer, and CLIP's pooled output as the prompt as a whole.

The base named schnell reads 256 tokens by T5, all others 512 (diffusers' documentation).
"""

from __future__ import annotations

from collections.abc import Sequence

from cnctl.models.base import Base
from cnctl.models.prompts import PromptOptions
from cnctl.models.text_features import TextFeatures
from cnctl.models.transformer.text import describe_cut, read_ids

TOKENS = {True: 512, False: 256}
"""What T5 reads, its end included, where the base reads a scale of guidance and where not."""


class FluxPrompts:
    """A `PromptReader`: each encoder reads the beginning of a prompt, once."""

    def encode(
        self, base: Base, prompt: str, *, chunks: int, options: PromptOptions
    ) -> TextFeatures:
        """Features of one prompt: tokens (1, 512 or 256, D), pooled (1, P)."""
        (clip, clip_tokenizer), (t5, t5_tokenizer) = base.text_encoders
        length = clip_tokenizer.model_max_length
        pooled = clip(read_ids(clip, clip_tokenizer, prompt, length)).pooler_output
        tokens = t5(read_ids(t5, t5_tokenizer, prompt, _tokens(base))).last_hidden_state
        return TextFeatures(tokens, pooled=pooled)

    def count_chunks(self, base: Base, prompts: Sequence[str], *, options: PromptOptions) -> int:
        """One: what an encoder does not read at once it does not read."""
        return 1

    def describe_length(self, base: Base, prompt: str, *, options: PromptOptions) -> str:
        """A sentence on a prompt of which T5 reads the beginning only; "" else.

        That CLIP reads less hardly matters: its part is one vector for all of the prompt.
        """
        length = base.text_encoders[0].tokenizer.model_max_length
        whole = describe_cut(base, prompt, [("CLIP", 10**9), ("T5", _tokens(base) - 1)])
        return whole and describe_cut(
            base, prompt, [("CLIP", length - 2), ("T5", _tokens(base) - 1)]
        )

    def most_clip_skip(self, base: Base) -> int:
        """One: CLIP's last layer is pooled."""
        return 1


def _tokens(base: Base) -> int:
    return TOKENS[bool(base.denoiser.config.guidance_embeds)]
