"""cnctl annotate"""

from __future__ import annotations

from typing import Annotated

import typer

from cnctl.cli.report import complete_condition, emit, emit_json, note, progress
from cnctl.errors import CnctlError, SomeInputsFailed


def annotate(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Images, folders (with all below) or - for stdin."),
    ],
    cond: Annotated[
        list[str],
        typer.Option(
            "--cond",
            metavar="NAME[,NAME...]",
            help="Conditions; cnctl conditions lists them.",
            autocompletion=complete_condition,
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", help="Folder; or a .png or - (stdout) for one hint.")
    ] = "out",
    option: Annotated[
        list[str],
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="Detector option, repeatable; NAME.KEY=VALUE with several conditions.",
        ),
    ] = [],  # noqa: B006  Typer copies it
    resolution: Annotated[
        int | None, typer.Option(help="Short side in pixels. [what the condition trains at]")
    ] = None,
    dataset: Annotated[
        bool, typer.Option("--dataset", help="Write a folder for cnctl train --data.")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="For the options that --dataset draws at random.")
    ] = 0,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", help="For --dataset, where a.jpg has no text in a.txt."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing hints.")] = False,
    device: Annotated[str, typer.Option(help="Where detectors run: cpu, cuda, mps.")] = "cpu",
    commercial: Annotated[bool, typer.Option("--commercial", help="No research weights.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")] = False,
) -> None:
    """Make the hints of images.

    A run that was stopped goes on when it is repeated; an image that fails is told and passed over.

    cnctl annotate --cond canny photos -o hints
    """
    if out == "-" and json:
        raise CnctlError("-o - and --json both want stdout", hint="name a file with -o")
    from cnctl.jobs.annotate import annotate as run

    with progress("annotating", 100, quiet=quiet) as advance:
        result = run(
            [name for names in cond for name in names.split(",")],
            inputs,
            out=out,
            options=option,
            resolution=resolution,
            dataset=dataset,
            seed=seed,
            prompt=prompt,
            overwrite=overwrite,
            device=device,
            commercial=commercial,
            on_progress=lambda done, total: advance(100 * done // total, f"{done} of {total}"),
            on_failure=lambda failure: note(f"cnctl: {failure.error}"),
        )
    if json:
        emit_json(result.as_dict())
    elif out != "-":
        emit(hint.path for hint in result.hints)
    if result.skipped:
        what = "1 hint was" if result.skipped == 1 else f"{result.skipped} hints were"
        note(f"{what} there already; --overwrite makes anew", quiet=quiet)
    if failed := len(result.failed):
        raise SomeInputsFailed(f"{failed} of {result.images} images failed")
