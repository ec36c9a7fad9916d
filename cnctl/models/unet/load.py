"""A ControlNet from disk to a diffusers module, whatever form the file has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetUnionModel

from cnctl.errors import CnctlError
from cnctl.models.unet.checkpoint import config as configs
from cnctl.models.unet.checkpoint.architecture import Architecture
from cnctl.models.unet.checkpoint.source import Source, describe, open_source
from cnctl.models.unet.checkpoint.tensors import read_tensors
from cnctl.models.unet.controlnet import ControlNet, use_paper_hint_encoder
from cnctl.tensorfiles.lazy import Tensors


def load_controlnet(
    source: str | Path | Source,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    base: Path | None = None,
    config: Path | None = None,
    condition: str = "",
) -> tuple[ControlNet | ControlNetUnionModel, dict[str, Any]]:
    """Load a ControlNet of any known form, with its description (see `read_description`).

    source: a diffusers folder or file, an original checkpoint (whole, alone, or with bare keys), as
    safetensors or as torch's `.pth` and `.ckpt`, which are read without running what they contain.
    dtype: None keeps the file's own. base: the base (folder or file) that completes a difference
    file or a Control-LoRA; other files need none.
    config, condition: see `open_source`.
    """
    if not isinstance(source, Source):
        source = open_source(source, config=config, base=base, condition=condition)
    controlnet = build(
        read_tensors(source),
        source.architecture,
        source.config,
        where=source.path,
        device=device,
        dtype=dtype,
    )
    return controlnet, describe(source)


def build(
    tensors: Tensors,
    architecture: Architecture,
    config: Mapping[str, Any],
    *,
    where: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> ControlNet | ControlNetUnionModel:
    """A module with copies of these tensors (diffusers' names), in evaluation mode.

    where: the file, for messages. The rest as for `load_controlnet`.
    """
    controlnet = _empty(architecture, config, where=where)
    # Copied: a mapped file may change, and on the CPU the last bits of a result depend on where in
    # memory a tensor lies. Cast here, because `ControlNetModel.to` would warn.
    weights = {
        name: lazy.read().to(device, dtype or lazy.dtype, copy=True)
        for name, lazy in tensors.items()
    }
    controlnet.load_state_dict(weights, strict=True, assign=True)
    return controlnet.eval()


def _empty(
    architecture: Architecture,
    config: Mapping[str, Any],
    *,
    where: Path,
) -> ControlNet | ControlNetUnionModel:
    """A module on the meta device."""
    try:
        with torch.device("meta"):
            kind = ControlNetUnionModel if architecture.union else ControlNet
            controlnet = kind(**configs.complete_config(config, architecture))
            if architecture.hint_encoder == "paper":
                use_paper_hint_encoder(controlnet)
    except (ValueError, TypeError, ZeroDivisionError, KeyError, NotImplementedError) as error:
        raise CnctlError(
            f"{where}: its config is not a ControlNet's: {' '.join(str(error).split())[:200]}",
            hint="give the right config.json with --config FILE",
        ) from error
    return controlnet
