"""cnctl generate"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnctl.cli import flags
from cnctl.cli.complete import (
    complete_base,
    complete_condition,
    complete_control,
    complete_scheduler,
    complete_sweep,
)
from cnctl.cli.declared import Given, declares
from cnctl.cli.generate_display import GenerateDisplay, draw_images
from cnctl.cli.page import emit_page
from cnctl.cli.report import (
    emit,
    emit_json,
    progress,
    silence,
)
from cnctl.commands.generate.request import GenerateRequest
from cnctl.errors import CnctlError, SomeInputsFailed, counted, shown
from cnctl.settings import GenerateSettings
from cnctl.settings.declaration import Flag

if TYPE_CHECKING:
    from cnctl.commands.generate.generated import GeneratedImage
    from cnctl.commands.shared.events import FailedImage

Images = Annotated[
    list[str] | None,
    typer.Argument(metavar="IMAGE", help="Photographs to detect the hint in.", show_default=False),
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
Prompts = Annotated[str | None, Flag("Prompts, one per line; - for stdin.", metavar="FILE")]
Sweep = Annotated[
    list[str],
    Flag("Make every image with each value of a setting.", metavar="NAME=A,B,..."),
]
StepScales = Annotated[
    list[str],
    Flag("Factor of control in each step; once or per --cond.", metavar="1,0.5,..."),
]
ResidualScales = Annotated[
    list[str],
    Flag("Factor of each residual; once or per --cond.", metavar="1,0.5,..."),
]
Regions = Annotated[
    list[str],
    Flag("White where control acts; once or per --cond.", ("--region",), "MASK"),
]
Size = Annotated[
    str | None,
    Flag("Size in pixels.", metavar="WxH", default="the image's, by --resolution"),
]
Grid = Annotated[bool, Flag("Also write a sheet: the hint, then its images.")]
Gallery = Annotated[Path | None, Flag("Also write a page with all images.", metavar="HTML")]
Preview = Annotated[bool, Flag("Show the images in the terminal (stderr).")]
From = Annotated[
    Path | None,
    Flag("Make this image again; flags change it.", ("--from",), "PNG"),
]


COMPLETE = {
    "weights": complete_control,
    "base": complete_base,
    "scheduler": complete_scheduler,
    "sweep": complete_sweep,
}
PANELS = {
    "Input": "images cond ready_hint options size resolution resize jobs made_before",
    "Prompt": "prompt prompts negative_prompt added_prompt prompt_mode captioner emphasis "
    "clip_skip",
    "Control": "weights configs control_scale control_start control_end control_every control_mode "
    "step_scales residual_scales regions",
    "Sampling": "base count seed steps guidance_scale guidance_start guidance_end "
    "distilled_guidance scheduler loras embeddings sweep",
    "Edit": "image strength mask",
    "Output": "out name grid gallery preview save_steps resume overwrite private dry_run json "
    "quiet",
    "Machine": "device dtype batch_size low_memory quantize threads compile",
}


@declares(GenerateRequest, GenerateSettings, panels=PANELS, complete=COMPLETE)
def generate(
    *,
    images: Images = None,
    cond: Controls = [],  # noqa: B006  Typer copies it
    given: Given,
    prompts: Prompts = None,
    sweep: Sweep = [],  # noqa: B006
    step_scales: StepScales = [],  # noqa: B006
    residual_scales: ResidualScales = [],  # noqa: B006
    regions: Regions = [],  # noqa: B006
    size: Size = None,
    grid: Grid = False,
    gallery: Gallery = None,
    preview: Preview = False,
    made_before: From = None,
    dry_run: flags.DryRun = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Make images that show the prompt in the layout of the hint.

    cnctl generate --cond canny photo.jpg -p "a cat"
    """
    from cnctl.cli.generate_jobs import run_jobs
    from cnctl.cli.generate_pipes import with_pipes, writes_to_pipe
    from cnctl.commands.generate.controls import parse_controls
    from cnctl.commands.generate.prompts import gather_prompts
    from cnctl.commands.generate.replay import replay
    from cnctl.commands.generate.tasks import parse_size, parse_sweep
    from cnctl.images import check_output

    asked, settings = given[GenerateRequest], given[GenerateSettings]
    # Given once, a mode is a setting of the run; given more often, each control's own.
    modes = settings.pop("control_mode", [])
    if len(modes) == 1:
        settings["control_mode"] = modes.pop()
    request = GenerateRequest(
        **asked | {"prompt": gather_prompts(asked.get("prompt"), prompts)},
        images=images or [],
        controls=parse_controls(
            cond,
            modes=modes,
            step_scales=step_scales,
            residual_scales=residual_scales,
            regions=regions,
        ),
        settings=settings,
        sweep=parse_sweep(sweep),
        size=parse_size(size),
    )
    request = replay(made_before, request) if made_before else request
    if str(request.jobs) == "-":
        _refuse_with_jobs(
            **{
                "--grid": grid,
                "--gallery": gallery,
                "--preview": preview,
                "--dry-run": dry_run,
                "--from": made_before,
            }
        )
        return run_jobs(request, json=json, quiet=quiet)
    with with_pipes(request, grid, gallery, preview, json, dry_run) as piped:
        if dry_run:
            return _plan(piped, json=json, quiet=quiet)
        if gallery:
            check_output(gallery, overwrite=piped.overwrite or piped.resume)
        silent = json or writes_to_pipe(request)
        made, failed = _run(piped, silent=silent, preview=preview, quiet=quiet)
        pages = _show(made, piped, grid=grid, gallery=gallery)
        if json:
            document = {"images": [image.as_dict() for image in made], "pages": pages}
            emit_json(document | {"failed": [asdict(failure) for failure in failed]})
        else:
            emit(pages)
    _report_failed(failed)


def _refuse_with_jobs(**given: object) -> None:
    for flag, value in given.items():
        if value:
            raise CnctlError(f"{flag} is not for --jobs -", hint="give the jobs as a file")


def _plan(request: GenerateRequest, *, json: bool, quiet: bool) -> None:
    from cnctl.commands.generate.dry_run import plan_generation

    plan = plan_generation(request, GenerateDisplay(silence, preview=False, quiet=quiet))
    if json:
        emit_json({"plan": plan.as_dict()})
    else:
        emit_page(plan.lines())
    _report_failed(plan.failed)


def _report_failed(failed: Sequence[FailedImage]) -> None:
    if failed:
        names = ", ".join(shown(failure.image) for failure in failed)
        raise SomeInputsFailed(f"{counted(len(failed), 'input')} failed: {names}")


def _run(
    request: GenerateRequest, *, silent: bool, preview: bool, quiet: bool
) -> tuple[list[GeneratedImage], list[FailedImage]]:
    from cnctl.commands.generate.run import generate as run
    from cnctl.images import read_image

    made: list[GeneratedImage] = []
    with progress("loading", quiet=quiet, text="PyTorch and diffusers") as advance:
        display = GenerateDisplay(advance, preview=preview, quiet=quiet)
        for image in run(request, on_event=display):
            made.append(image)
            if not silent:
                emit([image.path])
            if preview:
                draw_images([read_image(image.path)])
    return made, display.failed


def _show(
    made: list[GeneratedImage], request: GenerateRequest, *, grid: bool, gallery: Path | None
) -> list[Path]:
    """Write the sheets and the page that were asked for; where all of them are."""
    from cnctl.commands.generate.gallery import write_gallery, write_grids
    from cnctl.commands.generate.step_sheets import sheet_path

    overwrite = request.overwrite
    sheets = [sheet_path(image.path) for image in made] if request.save_steps else []
    pages = [
        *filter(Path.is_file, sheets),
        *(write_grids(made, overwrite=overwrite) if grid else []),
    ]
    if gallery:
        write_gallery(made, gallery, overwrite=overwrite or request.resume)
        pages.append(gallery)
    return pages
