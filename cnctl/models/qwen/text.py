"""Prompts as Qwen-Image reads them: inside a conversation, by a language model's last layer."""

from __future__ import annotations

from collections.abc import Sequence

from cnctl.models.base import Base
from cnctl.models.prompts import PromptOptions
from cnctl.models.text_features import TextFeatures

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
BEFORE = 34
"""Tokens of the template before the prompt, whose features are left out."""
TOKENS = 1024
"""What is kept, the end of the template included (diffusers' pipelines)."""


class QwenPrompts:
    """A `PromptReader`: prompts have as many tokens as they need."""

    def encode(
        self, base: Base, prompt: str, *, chunks: int, options: PromptOptions
    ) -> TextFeatures:
        """Features of one prompt: tokens (1, L, D), without padding."""
        model, tokenizer = base.text_encoders[0]
        read = tokenizer(
            [TEMPLATE.replace("{}", prompt)],
            max_length=TOKENS + BEFORE,
            truncation=True,
            return_tensors="pt",
        ).to(model.device)
        outputs = model(
            input_ids=read.input_ids, attention_mask=read.attention_mask, output_hidden_states=True
        )
        return TextFeatures(outputs.hidden_states[-1][:, BEFORE:])

    def count_chunks(self, base: Base, prompts: Sequence[str], *, options: PromptOptions) -> int:
        """One: what is not read at once is not read."""
        return 1

    def describe_length(self, base: Base, prompt: str, *, options: PromptOptions) -> str:
        """A sentence on a prompt of which the beginning only is read; "" else."""
        given = len(base.text_encoders[0].tokenizer(prompt, verbose=False).input_ids)
        if given <= TOKENS:
            return ""
        return f"the prompt is long: {base.name} reads the first {TOKENS} of {given} tokens"

    def most_clip_skip(self, base: Base) -> int:
        """One: there is no CLIP."""
        return 1
