"""cnctl evaluate"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cnctl.cli import flags
from cnctl.cli import generate_flags as of_generate
from cnctl.cli.report import complete_condition, emit, emit_json, note, progress
from cnctl.errors import SomeInputsFailed
from cnctl.settings import GenerateSettings

Condition = Annotated[
    str,
    typer.Option(
        "--cond",
        metavar="NAME",
        help="Condition; cnctl conditions lists them.",
        autocompletion=complete_condition,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(metavar="DIR|SHARDS|scenes:N", help="Photographs, or what cnctl train takes."),
]
Outputs = Annotated[
    list[Path],
    typer.Option(metavar="DIR", help="Images that are made already; repeatable, to compare."),
]
Weights = Annotated[
    list[str],
    typer.Option("--control", help="ControlNet; repeatable, to compare on the same seeds."),
]
ReadyHint = Annotated[bool, typer.Option("--hint", help="The images of --data are hints.")]
Prompt = Annotated[
    str | None, typer.Option("--prompt", "-p", help="Where the data have none. [the paper's]")
]
Count = Annotated[int, typer.Option("--count", "-n", help="Images per hint.")]
Seed = Annotated[int, typer.Option(help="Of the first image; the others follow.")]
Metrics = Annotated[
    str, typer.Option(metavar="clip,fid,kid", help="Beside fidelity; needs cnctl[metrics].")
]
ClipModel = Annotated[
    str | None, typer.Option(help="Folder or cached hub id. [openai/clip-vit-large-patch14]")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for images and pages.")]


def evaluate(
    cond: Condition,
    data: Data = None,
    outputs: Outputs = [],  # noqa: B006  Typer copies it
    control: Weights = [],  # noqa: B006
    ready_hint: ReadyHint = False,
    option: flags.DetectorOptions = [],  # noqa: B006
    prompt: Prompt = None,
    negative_prompt: of_generate.NegativePrompt = "",
    base: flags.Base = None,
    count: Count = 1,
    seed: Seed = 0,
    steps: of_generate.Steps = None,
    guidance_scale: of_generate.GuidanceScale = None,
    control_scale: of_generate.ControlScale = None,
    scheduler: of_generate.Scheduler = None,
    resolution: flags.Resolution = None,
    batch_size: of_generate.BatchSize = None,
    low_memory: of_generate.LowMemory = False,
    metrics: Metrics = "",
    clip_model: ClipModel = None,
    out: Out = Path("evaluation"),
    resume: of_generate.Resume = False,
    overwrite: flags.Overwrite = False,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Measure how well images obey their hints; compare ControlNets.

    cnctl evaluate --cond canny --data scenes:64 --control A --control B
    """
    given = locals()
    settings = {f.name: given[f.name] for f in fields(GenerateSettings) if f.name in given}
    note("loading ...", quiet=quiet)
    from cnctl.commands.evaluate.run import EvaluateRequest
    from cnctl.commands.evaluate.run import evaluate as run

    request = EvaluateRequest(
        condition=cond,
        data=data,
        outputs=outputs,
        weights=control,
        ready_hint=ready_hint,
        options=option,
        prompt=prompt,
        negative_prompt=negative_prompt,
        base=base,
        count=count,
        seed=seed,
        settings=settings,
        batch_size=batch_size,
        low_memory=low_memory,
        metrics=[name.strip() for name in metrics.split(",") if name.strip()],
        clip_model=clip_model,
        out=out,
        resume=resume,
        overwrite=overwrite,
        device=device,
        dtype=dtype,
    )
    with progress("evaluating", 100, quiet=quiet) as advance:
        found = run(
            request,
            note=partial(note, quiet=quiet),
            on_stage=lambda what, done, total: advance(100 * done // total, what),
        )
    if json:
        emit_json(found.as_dict())
    else:
        emit(found.lines())
    for name, why in found.failed.items():
        note(f"cnctl: {why if name in why else f'{name}: {why}'}")
    note(f"pages: {', '.join(map(str, found.pages))}", quiet=quiet)
    if failed := len(found.failed):
        raise SomeInputsFailed(f"{failed} of {failed + len(found.ordered())} examples failed")
