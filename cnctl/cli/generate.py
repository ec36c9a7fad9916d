"""cnctl generate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from cnctl.cli import flags
from cnctl.cli.report import emit, emit_json, note, progress


def generate(
    images: flags.Photographs = None,
    cond: flags.Controls = [],  # noqa: B006  Typer copies it
    prompt: Annotated[str | None, Option("--prompt", "-p", help="What to show.")] = None,
    negative_prompt: Annotated[str, Option(help="What not to show.")] = "",
    prompt_mode: Annotated[str | None, Option(help="none, default or user (section 4.1).")] = None,
    hint: Annotated[bool, Option("--hint", help="The inputs are hints already.")] = False,
    option: flags.DetectorOptions = [],  # noqa: B006
    control: flags.Weights = [],  # noqa: B006
    base: flags.Base = None,
    count: Annotated[int, Option("--count", "-n", help="Images per input.")] = 1,
    seed: Annotated[int | None, Option(help="Of the first image. [the first unused]")] = None,
    steps: Annotated[int | None, Option(help="Denoising steps. [20]")] = None,
    guidance_scale: Annotated[float | None, Option(help="Weight of the prompt. [9]")] = None,
    control_scale: Annotated[float | None, Option(help="Strength of control. [1]")] = None,
    control_start: Annotated[float | None, Option(help="Fraction where it begins. [0]")] = None,
    control_end: Annotated[float | None, Option(help="Fraction where it ends. [1]")] = None,
    control_mode: Annotated[
        list[str],
        Option(metavar="MODE", help="balanced, prompt or control; for all, or one per --cond."),
    ] = [],  # noqa: B006
    step_scales: Annotated[
        list[str],
        Option(metavar="1,0.5,...", help="Factor of control in each step; as --control-mode."),
    ] = [],  # noqa: B006
    residual_scales: Annotated[
        list[str],
        Option(metavar="1,0.5,...", help="Factor of each of 13 residuals; as --control-mode."),
    ] = [],  # noqa: B006
    scheduler: Annotated[str | None, Option(help="ddim, or any of diffusers'.")] = None,
    resolution: flags.Resolution = None,
    batch_size: Annotated[int, Option(help="Images denoised at once.")] = 4,
    out: Annotated[Path, Option("--out", "-o", help="Folder, or .png for one.")] = Path("out"),
    overwrite: flags.Overwrite = False,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Make images that show the PROMPT, laid out as the hint says.

    cnctl generate --cond canny photo.jpg -p "a cat"
    """
    note("loading ...", quiet=quiet)
    from cnctl.jobs.controls import parse_controls
    from cnctl.jobs.generate import generate as run

    controls = parse_controls(
        cond, modes=control_mode, step_scales=step_scales, residual_scales=residual_scales
    )

    with progress("denoising", 100, quiet=quiet) as advance:
        made = run(
            controls,
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
        documents = []
        for image in made:
            if json:
                documents.append(image.as_dict())
            else:
                emit([image.path])
    if json:
        emit_json({"images": documents})
