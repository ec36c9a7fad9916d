"""cnctl generate"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cnctl.cli import flags
from cnctl.cli import generate_flags as own
from cnctl.cli.report import emit, emit_json, note, progress
from cnctl.settings import GenerateSettings

if TYPE_CHECKING:
    from cnctl.jobs.generate_setup import GenerateRequest


def generate(
    images: flags.Photographs = None,
    cond: flags.Controls = [],  # noqa: B006  Typer copies it
    prompt: own.Prompt = None,
    prompts: own.Prompts = None,
    negative_prompt: own.NegativePrompt = "",
    added_prompt: own.AddedPrompt = "",
    prompt_mode: own.PromptMode = None,
    captioner: own.Captioner = None,
    ready_hint: own.ReadyHint = False,
    options: flags.DetectorOptions = [],  # noqa: B006
    weights: flags.Weights = [],  # noqa: B006
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
    from_: own.From = None,
    private: own.NoMetadata = False,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Make images that show the PROMPT, laid out as the hint says.

    cnctl generate --cond canny photo.jpg -p "a cat"
    """
    given = locals()
    settings = {field.name: given[field.name] for field in fields(GenerateSettings)}
    # Given once, a mode is a setting of the run; given more often, each control's own.
    settings["control_mode"] = control_mode[0] if len(control_mode) == 1 else None
    note("loading ...", quiet=quiet)
    from cnctl.jobs.controls import parse_controls
    from cnctl.jobs.generate_setup import GenerateRequest
    from cnctl.jobs.prompts import gather_prompts

    modes = control_mode if len(control_mode) > 1 else []
    given |= {
        "controls": parse_controls(
            cond, modes=modes, step_scales=step_scales, residual_scales=residual_scales
        ),
        "images": images or [],
        "prompt": gather_prompts(prompt, prompts),
        "settings": settings,
    }
    # The other flags are called as the request's fields are.
    names = given.keys() & {field.name for field in fields(GenerateRequest)}
    request = GenerateRequest(**{name: given[name] for name in names})
    _run(request, from_, json=json, quiet=quiet)


def _run(request: GenerateRequest, origin: Path | None, *, json: bool, quiet: bool) -> None:
    from cnctl.jobs.generate import generate as run
    from cnctl.jobs.replay import replay

    if origin:
        request = replay(origin, request)
    documents = []
    with progress("denoising", 100, quiet=quiet) as advance:
        for made in run(
            request,
            note=partial(note, quiet=quiet),
            on_step=lambda done, total: advance(round(100 * done / total)),
        ):
            if json:
                documents.append(made.as_dict())
            else:
                emit([made.path])
    if json:
        emit_json({"images": documents})
