"""cnctl annotate"""

from __future__ import annotations

from typing import Annotated

import typer

from cnctl.cli import flags
from cnctl.cli.declared import Given, declares
from cnctl.cli.report import complete_condition, emit, emit_json, note, progress
from cnctl.errors import CnctlError, SomeInputsFailed
from cnctl.settings import AnnotateSettings

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Images, folders (with all below) or - for stdin."),
]
Conditions = Annotated[
    list[str],
    typer.Option(
        "--cond",
        metavar="NAME[,NAME...]",
        help="Conditions; cnctl conditions lists them.",
        autocompletion=complete_condition,
    ),
]
Out = Annotated[
    str, typer.Option("--out", "-o", help="Folder; or a .png or - (stdout) for one hint.")
]
Options = Annotated[
    list[str],
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="Detector option, repeatable; NAME.KEY=VALUE with several conditions.",
    ),
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Also a sheet of each image beside all its hints.")
]
GroundTruth = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Read hints from a data set's own maps; detect nothing."),
]
Dataset = Annotated[bool, typer.Option("--dataset", help="Write a folder for cnctl train --data.")]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", "-p", help="For --dataset, where a.jpg has no text in a.txt."),
]
Largest = Annotated[
    int | None, typer.Option(metavar="N", help="Only the N images with the most pixels.")
]
Sample = Annotated[int | None, typer.Option(metavar="N", help="Only N images, drawn by --seed.")]
Seed = Annotated[
    int, typer.Option(min=0, help="For --sample, and for options that --dataset draws.")
]
OverwriteHints = Annotated[bool, typer.Option("--overwrite", help="Replace existing hints.")]
Device = Annotated[str, typer.Option(help="Where detectors run: cpu, cuda, mps.")]
Batch = Annotated[
    int | None,
    typer.Option(min=1, help="Images that a network sees at once. [1 on the CPU, else 4]"),
]
Commercial = Annotated[bool, typer.Option("--commercial", help="No research weights.")]


@declares(AnnotateSettings)
def annotate(
    *,
    inputs: Inputs,
    cond: Conditions,
    out: Out = "out",
    option: Options = [],  # noqa: B006  Typer copies it
    given: Given,
    compare: Compare = False,
    ground_truth: GroundTruth = None,
    dataset: Dataset = False,
    prompt: Prompt = None,
    largest: Largest = None,
    sample: Sample = None,
    seed: Seed = 0,
    overwrite: OverwriteHints = False,
    device: Device = "cpu",
    batch: Batch = None,
    commercial: Commercial = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Make the hints of images.

    A run that was stopped goes on when it is repeated; an image that fails is told and passed over.

    cnctl annotate --cond canny photos -o hints
    """
    if out == "-" and json:
        raise CnctlError("-o - and --json both want stdout", hint="name a file with -o")
    from cnctl.commands.annotate.run import annotate as run

    with progress("annotating", 100, quiet=quiet) as advance:
        result = run(
            [name.strip() for names in cond for name in names.split(",") if name.strip()],
            inputs,
            out=out,
            options=option,
            resolution=given[AnnotateSettings].get("resolution"),
            compared=compare,
            ground_truth=ground_truth,
            dataset=dataset,
            prompt=prompt,
            largest=largest,
            sample=sample,
            seed=seed,
            overwrite=overwrite,
            device=device,
            batch=batch,
            commercial=commercial,
            on_made=lambda path: None if json or out == "-" else emit([path]),
            on_progress=lambda done, total: advance(100 * done // total, f"{done} of {total}"),
            on_failure=lambda failure: note(f"cnctl: {failure.error}"),
        )
    if json:
        emit_json(result.as_dict())
    if result.skipped:
        what = "1 hint was" if result.skipped == 1 else f"{result.skipped} hints were"
        note(f"{what} there already; --overwrite makes anew", quiet=quiet)
    if failed := len(result.failed):
        raise SomeInputsFailed(f"{failed} of {result.images} images failed")
