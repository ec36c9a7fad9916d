"""Flags that several commands share, each spelt and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnctl.cli.report import complete_condition

Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        envvar="CNCTL_BASE",
        help="Base model: folder, file, cached hub id, tiny, sd15, sd21, sdxl.",
    ),
]
DetectorOptions = Annotated[
    list[str],
    typer.Option("--option", metavar="KEY=VALUE", help="Detector option, repeatable."),
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps. [the fastest]")
]
Dtype = Annotated[
    str | None, typer.Option("--dtype", help="float32, bfloat16, float16. [by device]")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")]
Resolution = Annotated[
    int | None, typer.Option("--resolution", help="Short side in pixels. [the base's own]")
]

Controls = Annotated[
    list[str],
    typer.Option(
        "--cond",
        metavar="NAME[:SOURCE[:SCALE[:START-END]]]",
        help="Condition, repeatable; cnctl conditions lists them.",
        autocompletion=complete_condition,
    ),
]
Photographs = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[IMAGE]...", help="Photographs to detect the hint in.", show_default=False
    ),
]
Weights = Annotated[
    list[str],
    typer.Option(
        "--control", help="ControlNet: folder, run of train, file, cached hub id or short name."
    ),
]
