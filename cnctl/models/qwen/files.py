"""The files of bases of Qwen-Image: folders of diffusers, and a transformer in one file.

The original's names are diffusers'; text encoder and autoencoder of such files are not read.
"""

from __future__ import annotations

from diffusers import QwenImageTransformer2DModel

from cnctl.models.qwen.lora import NAMES
from cnctl.models.qwen.published import BASES
from cnctl.models.signatures import QWEN
from cnctl.models.transformer.base_file import FileNames
from cnctl.models.transformer.files import BaseFiles

FILES = BaseFiles(
    folder=QWEN,
    kind=QwenImageTransformer2DModel,
    names=FileNames(layers=NAMES, has_autoencoder=False),
    published=BASES,
)
