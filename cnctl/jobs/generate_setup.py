"""What `cnctl generate` is asked for, and what it needs to begin: checked first, then loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cnctl.core.base import Base
from cnctl.errors import CnctlError
from cnctl.jobs.captions import Caption, open_captioner
from cnctl.jobs.controls import (
    Branch,
    ControlSpec,
    check_sources,
    open_branches,
    parse_all_options,
    parse_control,
)
from cnctl.jobs.edits import EditedImage, read_edit
from cnctl.jobs.outputs import Shot, Task, plan_shots
from cnctl.jobs.prompts import choose_prompts, with_added
from cnctl.jobs.provenance import describe_run
from cnctl.jobs.weights import open_base
from cnctl.plugin import Condition
from cnctl.registry import get_condition
from cnctl.settings import GenerateSettings, resolve

SMALL_UNET = 50_000_000
"""Parameters."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class GenerateRequest:
    """Images to make: `count` of each input and prompt, under all controls at once."""

    controls: Sequence[ControlSpec | str] = ()
    """Text is read as `--cond` is: "canny", "canny:edges.png:0.8:0-0.6"."""
    images: Sequence[Path | str] = ()
    """What every control without a source of its own reads; may be empty if each has one."""
    prompt: str | Sequence[str] | None = None
    negative_prompt: str = ""
    added_prompt: str = ""
    """Added to each prompt."""
    prompt_mode: str | None = None
    """"none", "default", "automatic" or "user" (section 4.1); None is "user" where prompts are."""
    captioner: str | None = None
    """Of the automatic mode; see `open_captioner`."""
    ready_hint: bool = False
    """The sources are hints; nothing is detected."""
    options: Sequence[str] = ()
    """Detector options, "key=value"."""
    weights: Sequence[str] = ()
    """One per control, or none for those that the base or the condition brings."""
    image: Path | str | None = None
    """What to start from in place of noise alone; controls read it where there is no other."""
    mask: Path | str | None = None
    """White where the image may change; the rest of it is returned untouched."""
    strength: float | None = None
    """Share of the noise schedule that runs over the image; by default 0.8, and 1 with a mask."""
    base: str | None = None
    count: int = 1
    seed: int | None = None
    """Of the first image, the next ones follow; None takes the first from 0 whose file is free."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`GenerateSettings` by name; None for the default."""
    batch_size: int = 4
    out: Path | str = Path("out")
    """A folder, or a .png where one image is made."""
    overwrite: bool = False
    private: bool = False
    """Write no metadata into the images."""
    stem: str = ""
    """What the images are called; "" for their source's name and the conditions."""
    in_batch: tuple[int, int] = (0, 1)
    """Place and size of the batch, of copies of itself, that a single image is made in: rounding
    differs between batch sizes."""
    origin: Mapping[str, Any] | None = None
    """The record of the image that this one repeats; what differs unasked is noted."""
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All that a run needs, in memory."""

    request: GenerateRequest
    shots: Sequence[Shot]
    base: Base
    branches: Sequence[Branch]
    settings: GenerateSettings
    rewrite: Caption | None
    """In the automatic mode: the prompt to generate with again, from an image of a first round."""
    edited: EditedImage | None
    description: Mapping[str, Any]
    """What the records of all images have in common."""
    note: Note


def prepare(request: GenerateRequest, *, note: Note) -> Setup:
    """Check all that can be checked without weights, then load."""
    edited = read_edit(request.image, request.mask, request.strength)
    images: list[Path | None] = [Path(image) for image in request.images] or [None]
    if edited and not request.images and not request.ready_hint:
        images = [edited.path]
    controls = [parse_control(c) if isinstance(c, str) else c for c in request.controls]
    _check_inputs(controls, images)
    tasks = _list_tasks(request, images, stem_of=partial(_stem, controls=controls))
    conditions = [get_condition(control.condition) for control in controls]
    options = parse_all_options(conditions, request.options)
    check_sources(controls, conditions, images, ready=request.ready_hint)
    shots = plan_shots(
        tasks,
        out=Path(request.out),
        count=request.count,
        seed=request.seed,
        overwrite=request.overwrite,
    )
    base = open_base(request.base, device=request.device, dtype=request.dtype, note=note)
    _choose_threads(base)
    for prompt in dict.fromkeys(task.prompt for task in tasks):
        _note_long_prompt(base, prompt, note)
    settings = _resolve(conditions[0], base, request.settings)
    return Setup(
        request=request,
        shots=shots,
        base=base,
        branches=open_branches(
            controls, conditions, base, settings, options=options, weights=request.weights
        ),
        settings=settings,
        rewrite=_open_rewriter(request, base) if request.prompt_mode == "automatic" else None,
        edited=edited,
        description=describe_run(base, settings),
        note=note,
    )


def _check_inputs(controls: Sequence[ControlSpec], images: Sequence[Path | None]) -> None:
    if not controls:
        raise CnctlError("no condition", hint="name one: --cond canny; see cnctl conditions")
    if None in images and any(control.source is None for control in controls):
        raise CnctlError("no image", hint="give one, or one per condition: --cond canny:x.png")


def _list_tasks(
    request: GenerateRequest,
    images: Sequence[Path | None],
    *,
    stem_of: Callable[[Path | None], str],
) -> list[Task]:
    """Each image with each prompt."""
    given = [request.prompt] if isinstance(request.prompt, str) else request.prompt or []
    prompts = choose_prompts(given, request.prompt_mode)
    return [
        Task(
            image=image,
            stem=request.stem or stem_of(image),
            suffix=f"-p{number}" if len(prompts) > 1 else "",
            prompt=with_added(prompt, request.added_prompt),
            negative_prompt=request.negative_prompt,
        )
        for image in images
        for number, prompt in enumerate(prompts, 1)
    ]


def _stem(image: Path | None, *, controls: Sequence[ControlSpec]) -> str:
    """What images are called: after the first control's source, and all conditions."""
    source = controls[0].source or image
    assert source is not None
    return f"{Path(source).stem}-{'+'.join(control.condition for control in controls)}"


def _choose_threads(base: Base) -> None:
    """A small U-Net gains nothing from a second thread, and loses much where the CPU is busy."""
    parameters = sum(parameter.numel() for parameter in base.unet.parameters())
    if base.device.type == "cpu" and parameters < SMALL_UNET:
        torch.set_num_threads(1)


def _resolve(condition: Condition, base: Base, given: Mapping[str, Any]) -> GenerateSettings:
    of_base = {"resolution": base.resolution} | dict(base.defaults)
    chosen = resolve(GenerateSettings, of_base, asdict(condition.generate), flags=given)
    if chosen.steps < 1:
        raise CnctlError(f"--steps {chosen.steps} denoises nothing", hint="give at least 1")
    if chosen.resolution < base.latent_factor:
        raise CnctlError(f"--resolution {chosen.resolution} is too small", hint="try 512")
    return chosen


def _note_long_prompt(base: Base, prompt: str, note: Note) -> None:
    room = base.tokenizer.model_max_length
    length = len(base.tokenizer(prompt).input_ids)
    if length > room:
        note(f"the prompt has {length} tokens; {base.name} reads the first {room}")


def _open_rewriter(request: GenerateRequest, base: Base) -> Caption:
    caption = open_captioner(request.captioner, base)
    return lambda image: with_added(caption(image), request.added_prompt)
