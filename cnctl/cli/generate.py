"""cnctl generate"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path

from cnctl.cli import flags
from cnctl.cli import generate_flags as own
from cnctl.cli.report import emit, emit_json, note, progress
from cnctl.settings import GenerateSettings


def generate(
    images: flags.Photographs = None,
    cond: flags.Controls = [],  # noqa: B006  Typer copies it
    prompt: own.Prompt = None,
    negative_prompt: own.NegativePrompt = "",
    prompt_mode: own.PromptMode = None,
    hint: own.ReadyHint = False,
    option: flags.DetectorOptions = [],  # noqa: B006
    control: flags.Weights = [],  # noqa: B006
    image: own.Image = None,
    mask: own.Mask = None,
    strength: own.Strength = None,
    base: flags.Base = None,
    count: own.Count = 1,
    seed: own.Seed = None,
    steps: own.Steps = None,
    guidance_scale: own.GuidanceScale = None,
    control_scale: own.ControlScale = None,
    control_start: own.ControlStart = None,
    control_end: own.ControlEnd = None,
    control_mode: own.ControlMode = [],  # noqa: B006
    step_scales: own.StepScales = [],  # noqa: B006
    residual_scales: own.ResidualScales = [],  # noqa: B006
    scheduler: own.Scheduler = None,
    resolution: flags.Resolution = None,
    batch_size: own.BatchSize = 4,
    out: own.Out = Path("out"),
    overwrite: flags.Overwrite = False,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Make images that show the PROMPT, laid out as the hint says.

    cnctl generate --cond canny photo.jpg -p "a cat"
    """
    # --control-mode is each control's own; the other settings are one flag each.
    names = {field.name for field in fields(GenerateSettings)} - {"control_mode"}
    settings = {name: value for name, value in locals().items() if name in names}
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
            image=image,
            mask=mask,
            strength=strength,
            base=base,
            count=count,
            seed=seed,
            settings=settings,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            overwrite=overwrite,
            note=partial(note, quiet=quiet),
            on_step=lambda done, total: advance(round(100 * done / total)),
        )
        documents = []
        for one in made:
            if json:
                documents.append(one.as_dict())
            else:
                emit([one.path])
    if json:
        emit_json({"images": documents})
