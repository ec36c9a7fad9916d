"""The files of bases of FLUX.1: folders of diffusers, and one file with the original's names."""

from __future__ import annotations

from diffusers import FluxTransformer2DModel

from cnctl.models.flux.lora import NAMES
from cnctl.models.flux.published import BASES
from cnctl.models.signatures import FLUX
from cnctl.models.transformer.base_file import FileNames
from cnctl.models.transformer.files import BaseFiles

FILES = BaseFiles(
    folder=FLUX,
    kind=FluxTransformer2DModel,
    names=FileNames(
        layers=NAMES,
        text_encoders={
            "text_encoders.clip_l.transformer.": "text_encoder",
            "text_encoders.t5xxl.transformer.": "text_encoder_2",
        },
    ),
    published=BASES,
)
