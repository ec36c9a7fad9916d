"""The files of bases of SD3: folders of diffusers, and one file with Stability's names."""

from __future__ import annotations

from diffusers import SD3Transformer2DModel

from cnctl.models.sd3.lora import NAMES
from cnctl.models.sd3.published import BASES
from cnctl.models.signatures import SD3
from cnctl.models.transformer.base_file import FileNames
from cnctl.models.transformer.files import BaseFiles

FILES = BaseFiles(
    folder=SD3,
    kind=SD3Transformer2DModel,
    names=FileNames(
        layers=NAMES,
        alone={"pos_embed": "pos_embed.pos_embed"},
        text_encoders={
            "text_encoders.clip_l.transformer.": "text_encoder",
            "text_encoders.clip_g.transformer.": "text_encoder_2",
            "text_encoders.t5xxl.transformer.": "text_encoder_3",
        },
    ),
    published=BASES,
)
