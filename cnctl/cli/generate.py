"""cnctl generate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnctl.cli.report import complete_condition, emit, emit_json, note, progress


def generate(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Photographs to detect the hint in.", show_default=False),
    ] = None,
    cond: Annotated[
        list[str],
        typer.Option(
            "--cond",
            metavar="NAME[:SOURCE[:SCALE[:START-END]]]",
            help="Condition, repeatable; cnctl conditions lists them.",
            autocompletion=complete_condition,
        ),
    ] = [],  # noqa: B006  Typer copies it
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="What to show.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What not to show.")] = "",
    prompt_mode: Annotated[
        str | None, typer.Option(help="none, default or user (paper, section 4.1).")
    ] = None,
    hint: Annotated[
        bool, typer.Option("--hint", help="The inputs are hints already; detect nothing.")
    ] = False,
    option: Annotated[
        list[str],
        typer.Option("--option", metavar="KEY=VALUE", help="Detector option, repeatable."),
    ] = [],  # noqa: B006
    control: Annotated[
        list[str], typer.Option("--control", help="ControlNet: folder, run, file or cached hub id.")
    ] = [],  # noqa: B006
    base: Annotated[
        str | None,
        typer.Option(
            envvar="CNCTL_BASE", help="Base model: folder, file, cached hub id, tiny, sd15."
        ),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", help="Images per input.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the first image. [default: the first unused from 0]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. [paper: 20]")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Weight of the prompt. [paper: 9; tiny has its own]")
    ] = None,
    control_scale: Annotated[float | None, typer.Option(help="Strength of control. [1]")] = None,
    control_start: Annotated[
        float | None, typer.Option(help="Fraction where control begins. [0]")
    ] = None,
    control_end: Annotated[
        float | None, typer.Option(help="Fraction where control ends. [1]")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="ddim, or any diffusers scheduler.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Short side in pixels. [the base's own]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images denoised at once.")] = 4,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder, or a .png for one image.")
    ] = Path("out"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing images.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. [best]")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16, float16. [by device]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")] = False,
) -> None:
    """Make images that show the PROMPT, laid out as the hint says.

    cnctl generate --cond canny photo.jpg -p "a cat"
    """
    note("loading ...", quiet=quiet)
    from cnctl.jobs.generate import generate as run
    from cnctl.jobs.generate import parse_control

    with progress("denoising", 100, quiet=quiet) as advance:
        made = list(
            run(
                [parse_control(text) for text in cond],
                images or [],
                prompt,
                out=out,
                negative_prompt=negative_prompt,
                prompt_mode=prompt_mode,
                ready_hint=hint,
                options=option,
                weights=control,
                base=base,
                count=count,
                seed=seed,
                settings={
                    "steps": steps,
                    "guidance_scale": guidance_scale,
                    "control_scale": control_scale,
                    "control_start": control_start,
                    "control_end": control_end,
                    "resolution": resolution,
                    "scheduler": scheduler,
                },
                batch_size=batch_size,
                device=device,
                dtype=dtype,
                overwrite=overwrite,
                note=lambda text: note(text, quiet=quiet),
                on_step=lambda done, total: advance(round(100 * done / total)),
            )
        )
    if json:
        emit_json({"images": [image.as_dict() for image in made]})
    else:
        emit(image.path for image in made)
