"""Captions of images: by a captioner of transformers, or by that of the embedded base."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor

from cnctl.errors import CnctlError, MissingError
from cnctl.hints.files import find_file, safe_file
from cnctl.hints.hub_models import BLIP
from cnctl.models.locate import locate_base
from cnctl.models.location import part_folder, read_defaults
from cnctl.plugin import WeightFile

Caption = Callable[[Sequence[np.ndarray]], list[str]]
"""Images, RGB uint8 (H, W, 3) each, in words."""

EMBEDDED = "tiny"
MAX_TOKENS = 40


def load_captioner(source: str | None, *, device: str | torch.device) -> Caption:
    """The captioner of this name; None for BLIP.

    source: "tiny", or a folder or cached hub id of any captioner of transformers.
    """
    if source == EMBEDDED:
        base = locate_base(EMBEDDED).path
        return load_own_captioner(base, read_defaults(base), device=device)
    return _of_transformers(find_captioner(source), device=torch.device(device))


def find_captioner(source: str | None) -> Path:
    """The folder of a captioner; MissingError says how to get it."""
    if source == EMBEDDED:
        return locate_base(EMBEDDED).path / "captioner"
    file = WeightFile(repo=source) if source else BLIP
    path = Path(file.repo)
    if found := path if path.is_dir() else find_file(file):
        return safe_file(found)
    name = "blip" if file is BLIP else file.repo
    raise MissingError(
        f"no captioner {file.repo!r}: neither a folder nor in the hub cache",
        hint=f"fetch it: cnctl models pull {name}",
    )


def load_own_captioner(
    base: Path, defaults: Mapping[str, Any], *, device: str | torch.device
) -> Caption:
    """What a base's model_index.json names: a class of ours with `from_pretrained`, `caption`."""
    module, name = defaults["captioner"]
    if not module.startswith("cnctl."):
        raise CnctlError(f"{base.name} takes its captioner from {module!r}, which is not trusted")
    kind = getattr(importlib.import_module(module), name)
    folder = part_folder(base, defaults, "captioner")
    model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    caption = model.eval().to(device).caption
    return lambda images: [caption(image) for image in images]


def _of_transformers(folder: Path, *, device: torch.device) -> Caption:
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CnctlError(
            f"{folder} is not a captioner of transformers: {reason}",
            hint=f"give a model such as {BLIP.repo}",
        ) from error
    model.eval().to(device)

    @torch.inference_mode()
    def caption(images: Sequence[np.ndarray]) -> list[str]:
        inputs = processor(images=[*images], return_tensors="pt").to(device)
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_TOKENS)
        return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]

    return caption
