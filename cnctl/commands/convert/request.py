"""What `cnctl convert` is asked for: sources in another form, or an untrained ControlNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ConvertRequest:
    """ControlNets to write in another form, on another base, or averaged."""

    sources: str | Path | Sequence[str | Path]
    """Files or folders that `load_controlnet` reads, or cached hub ids; several are averaged."""
    target: str | Path
    """A folder, or a file that ends in .safetensors."""
    to: str | None = None
    """"diffusers", "original" (`control_model.` before each key), "bare" (no prefix), or
    "control-lora". None: "original" where the target ends in .safetensors, else "diffusers"."""
    dtype: str | None = None
    """"float16", "bfloat16" or "float32"; None for the source's own."""
    config: str | Path | None = None
    """A config.json to take the number of heads from, where the source does not state it."""
    base: str | Path | None = None
    """Completes a difference file or a Control-LoRA, and is what "control-lora" subtracts. For a
    full checkpoint: the base that its U-Net began from; what the U-Net has learnt since is kept in
    a folder."""
    from_base: str | Path | None = None
    """The base that the ControlNet was trained on, to move it to `to_base`."""
    to_base: str | Path | None = None
    shares: Sequence[float] = ()
    """The weight of each source in the average; () for equal weights."""
    rank: int | None = None
    """Of "control-lora"; None for 128."""
    condition: str = ""
    """Recorded where the source does not state its own."""
    verify: bool = False
    """Run source and result on random input and compare."""
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class InitRequest:
    """An untrained ControlNet to write for a base."""

    base: str | Path
    """As for `cnctl train`: a folder, a file, a cached hub id or a short name."""
    target: str | Path
    to: str | None = None
    """The form, as in `ConvertRequest`."""
    dtype: str | None = None
    config: str | Path | None = None
    """A config.json to take the number of heads from, where the base does not state it."""
    hint_channels: int = 3
    hint_encoder: str = "released"
    """"released" or "paper", the form of the hint encoder."""
    seed: int = 0
    """Of the hint encoder."""
    condition: str = ""
    overwrite: bool = False
