"""Flags that only the command line has, and that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from cnctl.cli.complete import complete_condition

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no notes and no progress.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")]

CONDITION = typer.Option(
    "--cond",
    metavar="NAME",
    help="Condition; cnctl conditions lists them.",
    autocompletion=complete_condition,
)
