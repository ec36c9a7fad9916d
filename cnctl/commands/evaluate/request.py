"""What `cnctl evaluate` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cnctl.commands.shared import flags
from cnctl.settings.common import BaseName
from cnctl.settings.declaration import Declared, Flag, at_least


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(Declared):
    """Pictures to measure: made here by one or more ControlNets, or taken from folders.

    With data and without outputs they are made; with both, outputs are called as their examples
    are; with outputs alone, these are images of `cnctl generate`, whose hints lie beside.
    """

    condition: str
    data: Annotated[
        str | None,
        Flag("Photographs, or what cnctl train takes.", metavar="DIR|SHARDS|scenes:N"),
    ] = None
    """Scenes are ones that training has not seen."""
    columns: flags.Columns = None
    outputs: Annotated[
        Sequence[Path | str],
        Flag("Existing images; repeatable, to compare.", metavar="DIR"),
    ] = ()
    """Each folder is a set."""
    weights: Annotated[
        Sequence[str],
        Flag("ControlNet; repeatable, to compare on the same seeds.", ("--control",)),
    ] = ()
    """Each makes a set; none for the base's own."""
    configs: Annotated[
        Sequence[Path | str],
        Flag(
            "config.json of a ControlNet whose file has none; one per --control.",
            ("--config",),
            metavar="FILE",
        ),
    ] = ()
    """One per ControlNet, "" for none."""
    ready_hint: Annotated[bool, Flag("The images of --data are hints.", ("--hint",))] = False
    options: flags.DetectorOptions = ()
    prompt: Annotated[
        str | None,
        Flag("Prompt for examples without one.", ("--prompt", "-p"), default="the base's own"),
    ] = None
    """Else the paper's default prompt."""
    negative_prompt: flags.NegativePrompt = ""
    base: BaseName = None
    count: Annotated[int, Flag("Images per hint.", ("--count", "-n")), at_least(1)] = 1
    seed: Annotated[int, Flag("Seed of the first image; the others follow."), at_least(0)] = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`GenerateSettings` by name; None for the default."""
    batch_size: flags.BatchSize = None
    low_memory: flags.LowMemory = False
    quantize: flags.Quantize = None
    metrics: Sequence[str] = ()
    """"clip", "fid", "kid", in addition to fidelity, which is always measured."""
    clip_model: Annotated[
        str | None,
        Flag("Folder or cached hub id.", default="openai/clip-vit-large-patch14"),
    ] = None
    out: Annotated[Path | str, Flag("Folder for images and pages.", ("--out", "-o"))] = Path(
        "evaluation"
    )
    resume: flags.Resume = False
    """Only images that were made by the same request."""
    overwrite: flags.Overwrite = False
    device: flags.Device = None
    dtype: flags.Dtype = None
