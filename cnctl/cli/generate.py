"""cnctl generate"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from cnctl.cli import flags
from cnctl.cli import generate_flags as own
from cnctl.cli.report import draw, emit, emit_json, note, progress
from cnctl.errors import SomeInputsFailed, shown
from cnctl.settings import GenerateSettings

if TYPE_CHECKING:
    import numpy as np

    from cnctl.commands.generate.outputs import GeneratedImage
    from cnctl.commands.generate.request import GenerateRequest
    from cnctl.commands.shared.events import FailedImage

PREVIEW_COLUMNS = 64


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
    loras: own.Loras = [],  # noqa: B006
    embeddings: own.Embeddings = [],  # noqa: B006
    image: own.Image = None,
    mask: own.Mask = None,
    strength: own.Strength = None,
    base: flags.Base = None,
    jobs: own.Jobs = None,
    sweep: own.Sweep = [],  # noqa: B006
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
    region: own.Region = [],  # noqa: B006
    scheduler: own.Scheduler = None,
    emphasis: own.Emphasis = None,
    clip_skip: own.ClipSkip = None,
    resolution: flags.Resolution = None,
    size: own.Size = None,
    resize: own.Resize = None,
    batch_size: own.BatchSize = None,
    low_memory: own.LowMemory = False,
    out: own.Out = Path("out"),
    name: own.Name = "{stem}{variant}-{seed}",
    grid: own.Grid = False,
    gallery: own.Gallery = None,
    preview: own.Preview = False,
    save_steps: own.SaveSteps = None,
    resume: own.Resume = False,
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
    note("loading ...", quiet=quiet)
    request = _read_flags(locals())
    made, failed = _run(request, json=json, preview=preview, quiet=quiet)
    pages = _show(made, request, grid=grid, gallery=gallery)
    if json:
        document = {"images": [image.as_dict() for image in made], "pages": pages}
        emit_json(document | {"failed": [asdict(failure) for failure in failed]})
    else:
        emit(pages)
    if failed:
        names = ", ".join(shown(failure.image) for failure in failed)
        raise SomeInputsFailed(f"{_inputs(len(failed))} failed: {names}")


def _read_flags(given: dict[str, Any]) -> GenerateRequest:
    """The request that the flags make, by their names."""
    settings = {field.name: given[field.name] for field in fields(GenerateSettings)}
    # Given once, a mode is a setting of the run; given more often, each control's own.
    settings["control_mode"] = given["control_mode"][0] if len(given["control_mode"]) == 1 else None
    from cnctl.commands.generate.controls import parse_controls
    from cnctl.commands.generate.prompts import gather_prompts
    from cnctl.commands.generate.replay import replay
    from cnctl.commands.generate.request import GenerateRequest
    from cnctl.commands.generate.tasks import parse_size, parse_sweep

    modes = given["control_mode"] if len(given["control_mode"]) > 1 else []
    given |= {
        "controls": parse_controls(
            given["cond"],
            modes=modes,
            step_scales=given["step_scales"],
            residual_scales=given["residual_scales"],
            regions=given["region"],
        ),
        "images": given["images"] or [],
        "prompt": gather_prompts(given["prompt"], given["prompts"]),
        "settings": settings,
        "sweep": parse_sweep(given["sweep"]),
        "size": parse_size(given["size"]),
    }
    # The other flags are called as the request's fields are.
    names = given.keys() & {field.name for field in fields(GenerateRequest)}
    request = GenerateRequest(**{name: given[name] for name in names})
    return replay(given["from_"], request) if given["from_"] else request


def _run(
    request: GenerateRequest, *, json: bool, preview: bool, quiet: bool
) -> tuple[list[GeneratedImage], list[FailedImage]]:
    from cnctl.commands.generate.run import generate as run
    from cnctl.images import read_image

    made: list[GeneratedImage] = []
    failed: list[FailedImage] = []

    def put_down(failure: FailedImage) -> None:
        failed.append(failure)
        note(f"cnctl: {failure.error}")

    with progress("denoising", 100, quiet=quiet) as advance:
        for image in run(
            request,
            note=partial(note, quiet=quiet),
            on_step=lambda done, total: advance(round(100 * done / total)),
            on_failure=put_down,
            on_preview=lambda done, images: _draw([*images]) if preview else None,
        ):
            made.append(image)
            if not json:
                emit([image.path])
            if preview:
                _draw([read_image(image.path)])
    return made, failed


def _draw(images: Sequence[np.ndarray]) -> None:
    """Show images of one size side by side in the terminal."""
    import numpy as np

    from cnctl.images import draw as drawn

    columns = min(PREVIEW_COLUMNS * len(images), get_terminal_size().columns)
    draw(drawn(np.concatenate(images, axis=1), columns=columns))


def _inputs(count: int) -> str:
    return "1 input" if count == 1 else f"{count} inputs"


def _show(
    made: list[GeneratedImage], request: GenerateRequest, *, grid: bool, gallery: Path | None
) -> list[Path]:
    """Write the sheets and the page that were asked for; where all of them are."""
    from cnctl.commands.generate.gallery import write_gallery, write_grids
    from cnctl.commands.generate.step_sheets import sheet_path

    sheets = [sheet_path(image.path) for image in made] if request.save_steps else []
    pages = [*filter(Path.is_file, sheets), *(write_grids(made) if grid else [])]
    if gallery:
        write_gallery(made, gallery)
        pages.append(gallery)
    return pages
