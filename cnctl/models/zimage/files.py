"""The files of bases of Z-Image: folders of diffusers, and one file with the original's names."""

from __future__ import annotations

from diffusers import ZImageTransformer2DModel

from cnctl.models.signatures import ZIMAGE
from cnctl.models.transformer.base_file import FileNames
from cnctl.models.transformer.files import BaseFiles
from cnctl.models.zimage.lora import NAMES
from cnctl.models.zimage.published import BASES

FILES = BaseFiles(
    folder=ZIMAGE,
    kind=ZImageTransformer2DModel,
    names=FileNames(
        layers=NAMES,
        alone={"norm_final.weight": ""},
        text_encoders={"text_encoders.qwen3_4b.transformer.model.": "text_encoder"},
    ),
    published=BASES,
)
