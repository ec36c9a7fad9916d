"""cnctl convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnctl.cli.report import emit, emit_json, note


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="A diffusers folder, a .safetensors, .pth or .ckpt, or a hub id."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="A folder, or a file that ends in .safetensors.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORM",
            help="diffusers, original (control_model. before each key), bare (no prefix). "
            "[original for a file, diffusers for a folder]",
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float16, bfloat16, float32. [the source's own]")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="config.json to take the number of heads from, if SRC has none."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run both files on random input and compare.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.")] = False,
) -> None:
    """Write the same ControlNet in another form, for webui, ComfyUI or diffusers.

    Files from strangers are safe to convert: nothing in them is run.

    cnctl convert runs/canny canny.safetensors
    """
    from cnctl.jobs.convert import convert as run

    result = run(
        source, target, to=to, dtype=dtype, config=config, verify=verify, overwrite=overwrite
    )
    for text in result.notes:
        note(text, quiet=quiet)
    if result.difference is not None:
        note(f"largest difference of the residuals: {result.difference:.3g}", quiet=quiet)
    if json:
        emit_json(result.as_dict())
    else:
        emit([result.path])
