"""A ControlNet of a transformer from disk to a module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cnctl.models.transformer.format import ControlNetFormat
from cnctl.models.transformer.source import Source, describe, open_source
from cnctl.models.transformer.tensors import read_tensors
from cnctl.tensorfiles.lazy import Tensors


def load_controlnet(
    format: ControlNetFormat,
    source: str | Path | Source,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    base: Path | None = None,
    config: Path | None = None,
) -> tuple[Any, dict[str, Any]]:
    """A ControlNet of any known form, with its description (see `describe`).

    dtype: None keeps the file's own. base, config: see `open_source`.
    """
    opened = (
        source
        if isinstance(source, Source)
        else open_source(format, source, base=base, config=config)
    )
    description = describe(format, opened)
    tensors = read_tensors(opened)
    format.check_tensors(opened, tensors)
    network = build(format, tensors, description["config"], device=device, dtype=dtype)
    network.hint_bounds = opened.hint_bounds
    return network, description


def build(
    format: ControlNetFormat,
    tensors: Tensors,
    config: Mapping[str, Any],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Any:
    """A module with copies of these tensors (diffusers' names), in evaluation mode.

    config: a complete one.
    """
    with torch.device("meta"):
        network = format.load_class()(**{k: v for k, v in config.items() if k != "_class_name"})
    # Copied: a mapped file may change, and on the CPU the last bits of a result depend on where in
    # memory a tensor lies.
    weights = {
        name: lazy.read().to(device, dtype or lazy.dtype, copy=True)
        for name, lazy in tensors.items()
    }
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval()
