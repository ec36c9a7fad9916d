"""What `cnctl convert` is asked for: sources in another form, or an untrained ControlNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cnctl.settings.declaration import Declared, Flag, at_least, at_most


@dataclass(frozen=True, kw_only=True)
class ConvertRequest(Declared):
    """ControlNets to write in another form, on another base, or averaged."""

    sources: str | Path | Sequence[str | Path]
    """Files or folders that `load_controlnet` reads, or cached hub ids; several are averaged."""
    target: str | Path
    """A folder, or a file that ends in .safetensors."""
    to: Annotated[
        str | None,
        Flag(
            "diffusers, original (control_model. before each key), bare (no prefix), control-lora.",
            metavar="FORM",
            default="original for a file, diffusers for a folder",
        ),
    ] = None
    dtype: Annotated[
        str | None, Flag("float16, bfloat16, float32.", default="the source's own")
    ] = None
    config: Annotated[
        str | Path | None,
        Flag("config.json to take the number of heads from, if SRC has none.", metavar="FILE"),
    ] = None
    base: Annotated[
        str | None,
        Flag(
            "Base that completes a difference file or a Control-LoRA, or that a full checkpoint "
            "started from: changes of its U-Net are kept if DST is a folder."
        ),
    ] = None
    from_base: Annotated[str | None, Flag("Base that SRC was trained on; needs --to-base.")] = None
    to_base: Annotated[
        str | None, Flag("Base to adapt DST to: adds the difference to the copy.")
    ] = None
    shares: Sequence[float] = ()
    """The weight of each source in the average; () for equal weights."""
    rank: Annotated[
        int | None,
        Flag("Rank for --to control-lora, which needs --base.", default="128"),
        at_least(1),
    ] = None
    condition: Annotated[
        str, Flag("Condition to record if SRC does not name one.", ("--cond",))
    ] = ""
    verify: Annotated[bool, Flag("Run SRC and DST on random input and compare.")] = False
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class InitRequest(Declared):
    """An untrained ControlNet to write for a base."""

    base: str | Path
    """As for `cnctl train`: a folder, a file, a cached hub id or a short name."""
    target: str | Path
    to: str | None = None
    """The form, as in `ConvertRequest`."""
    dtype: str | None = None
    config: str | Path | None = None
    """A config.json to take the number of heads from, where the base does not state it."""
    hint_channels: Annotated[
        int,
        Flag("Channels of the hint of an untrained ControlNet."),
        at_least(1),
        at_most(256),
    ] = 3
    hint_encoder: Annotated[str, Flag("Form of an untrained hint encoder: released, paper.")] = (
        "released"
    )
    seed: Annotated[int, Flag("Seed of an untrained hint encoder."), at_least(0)] = 0
    condition: str = ""
    overwrite: bool = False
