"""Captions of images, for the automatic prompt mode (section 4.1)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor

from cnctl.commands.shared.hub_models import BLIP
from cnctl.errors import CnctlError, MissingError
from cnctl.hints.files import find_file, safe_file
from cnctl.models.base import Base
from cnctl.plugin import WeightFile

Caption = Callable[[np.ndarray], str]
"""An image, RGB uint8 (H, W, 3), in words."""

MAX_TOKENS = 40


def open_captioner(source: str | None, base: Base) -> Caption:
    """The captioner of this name, else the base's own, else BLIP.

    source: a folder or cached hub id of any captioner of transformers.
    """
    if source is None and "captioner" in base.defaults:
        return _own_captioner(base)
    file = WeightFile(repo=source) if source else BLIP
    path = Path(file.repo)
    found = path if path.is_dir() else find_file(file)
    if found is None:
        name = "blip" if file is BLIP else file.repo
        raise MissingError(
            f"no captioner {file.repo!r}: neither a folder nor in the hub cache",
            hint=f"fetch it: cnctl models pull {name}",
        )
    return _transformers_captioner(safe_file(found), device=base.device)


def _own_captioner(base: Base) -> Caption:
    """What model_index.json names: a class of ours with `from_pretrained` and `caption`."""
    module, name = base.defaults["captioner"]
    if not module.startswith("cnctl."):
        raise CnctlError(f"{base.name} takes its captioner from {module!r}, which is not trusted")
    kind = getattr(importlib.import_module(module), name)
    model = kind.from_pretrained(
        base.path / "captioner", local_files_only=True, use_safetensors=True
    )
    return model.eval().to(base.device).caption


def _transformers_captioner(folder: Path, *, device: torch.device) -> Caption:
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
    def caption(image: np.ndarray) -> str:
        inputs = processor(images=image, return_tensors="pt").to(device)
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=MAX_TOKENS)
        return processor.decode(tokens[0], skip_special_tokens=True).strip()

    return caption
