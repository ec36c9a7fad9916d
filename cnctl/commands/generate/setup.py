"""What `cnctl generate` is asked for, and what it needs to begin: checked first, then loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cnctl.commands.generate.adapters import Adapters, check_adapters, load_adapters
from cnctl.commands.generate.controls import (
    Branch,
    open_branches,
    open_to,
    parse_all_options,
    parse_control,
)
from cnctl.commands.generate.hints import check_sources
from cnctl.commands.generate.image_to_image import EditedImage, read_edit
from cnctl.commands.generate.outputs import Plan, Shot, Task
from cnctl.commands.generate.pictures import Pictures
from cnctl.commands.generate.prompts import (
    DEFAULT_PROMPT,
    choose_prompts,
    default_prompt,
    with_added,
)
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.tasks import list_tasks, read_jobs, sweep_over
from cnctl.commands.shared.captioner import Caption, open_captioner
from cnctl.commands.shared.events import FailedImage
from cnctl.commands.shared.failures import Failures
from cnctl.commands.shared.weights import open_base, read_base_defaults
from cnctl.errors import CnctlError, DeviceError, SomeInputsFailed
from cnctl.images import ImageFile, find_images
from cnctl.models.base import Base
from cnctl.models.device import is_out_of_memory
from cnctl.models.prompts import (
    PromptOptions,
    chunk_size,
    count_chunks,
    most_clip_skip,
    precompute_prompts,
)
from cnctl.plugin import Condition
from cnctl.registry import get_condition
from cnctl.settings import GenerateSettings, resolve

SMALL_UNET = 50_000_000
"""Parameters."""

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All that a run needs, in memory."""

    request: GenerateRequest
    shots: Sequence[Shot]
    base: Base
    branches: Sequence[Branch]
    settings: GenerateSettings
    """As they are but for a sweep."""
    rewrite: Caption | None
    """In the automatic mode: the prompt to generate with again, from an image of a first round."""
    pictures: Pictures
    edited: EditedImage | None
    adapters: Adapters
    note: Note
    failures: Failures
    written: set[Path] = field(default_factory=set)
    """Hints of this run."""

    def settings_of(self, task: Task) -> GenerateSettings:
        """The settings of one task, which a sweep may change."""
        return _settings_of(self.settings, task)


def prepare(
    request: GenerateRequest, *, note: Note, on_failure: Callable[[FailedImage], None]
) -> Setup:
    """Check all that can be checked without weights, then load.

    An image that cannot be read is left out, if there are others.
    """
    pictures = Pictures()
    edited = read_edit(request.image, request.mask, request.strength, pictures=pictures)
    controls = [
        open_to(request.sweep, parse_control(c) if isinstance(c, str) else c)
        for c in request.controls
    ]
    tasks = _list_tasks(request, controls, edited)
    _check_inputs(controls, tasks)
    conditions = [get_condition(control.condition) for control in controls]
    options = parse_all_options(conditions, request.options)
    images = [*dict.fromkeys(task.image for task in tasks)]
    failures = Failures(on_failure, alone=len(images) == 1)
    check_sources(
        controls,
        conditions,
        images,
        ready=request.ready_hint,
        pictures=pictures,
        failures=failures,
    )
    tasks = _without(failures, tasks)
    shots = _plan(request).shots(tasks)
    check_adapters(request.loras, request.embeddings)
    base = open_base(
        request.base,
        device=request.device,
        dtype=request.dtype,
        low_memory=request.low_memory,
        note=note,
    )
    _choose_threads(base)
    adapters = load_adapters(base, request.loras, request.embeddings)
    settings = _resolve(conditions[0], base, request.settings)
    _check_run(request, tasks, settings, base)
    for prompt in dict.fromkeys(task.prompt for task in tasks):
        _note_long_prompt(base, prompt, note, options=prompt_options_of(settings))
    if request.low_memory and request.prompt_mode != "automatic":
        base = precompute_prompts(base, _to_read(base, tasks, settings))
    setup = Setup(
        request=request,
        shots=shots,
        base=base,
        branches=open_branches(
            controls,
            conditions,
            base,
            settings,
            options=options,
            weights=request.weights,
            ready=request.ready_hint,
        ),
        settings=settings,
        rewrite=_open_rewriter(request, base) if request.prompt_mode == "automatic" else None,
        pictures=pictures,
        edited=edited,
        adapters=adapters,
        note=note,
        failures=failures,
    )
    for chosen in {setup.settings_of(task) for task in tasks}:
        for branch in setup.branches:
            branch.check(chosen)
    if request.loras and any(branch.network.replaces_base for branch in setup.branches):
        raise CnctlError(
            "a LoRA changes the base's network, and this control takes its place",
            hint="leave out --lora",
        )
    return setup


@contextmanager
def memory_told(request: GenerateRequest, what: str) -> Iterator[None]:
    """DeviceError that says what takes less, where memory is too small for `what`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        ways = {
            "--low-memory": not request.low_memory,
            "--batch-size 1": request.at_once > 1 and "at once" in what,
            "a smaller --size or --resolution": "at once" in what,
            "--dtype bfloat16": request.dtype is None,
        }
        hint = ", or ".join(way for way, is_open in ways.items() if is_open)
        raise DeviceError(f"out of memory for {what}", hint=f"try {hint}") from error


def _list_tasks(
    request: GenerateRequest, controls: Sequence[ControlSpec], edited: EditedImage | None
) -> list[Task]:
    given = [request.prompt] if isinstance(request.prompt, str) else request.prompt or []
    default = DEFAULT_PROMPT if given else default_prompt(read_base_defaults(request.base))
    prompts = [
        with_added(prompt, request.added_prompt)
        for prompt in choose_prompts(given, request.prompt_mode, default=default)
    ]
    shared = {
        "conditions": "" if request.called else "+".join(c.condition for c in controls),
        "negative_prompt": request.negative_prompt,
    }
    if request.jobs is not None:
        if request.images or len(prompts) > 1:
            raise CnctlError("--jobs has images and prompts of its own", hint="leave out others")
        tasks = read_jobs(Path(request.jobs), prompt=prompts[0], **shared)
        return sweep_over(tasks, request.sweep)
    images: list[ImageFile | None] = [*find_images(request.images)] or [None]
    if edited and not request.images and not request.ready_hint:
        images = [ImageFile(edited.path, Path(edited.path.name))]
    own = controls[0].source if controls and not request.images else None
    called = request.called or (Path(own).stem if own else "")
    return sweep_over(list_tasks(images, prompts, called=called, **shared), request.sweep)


def _check_inputs(controls: Sequence[ControlSpec], tasks: Sequence[Task]) -> None:
    if not controls:
        raise CnctlError("no condition", hint="name one: --cond canny; see cnctl conditions")
    lacks = any(task.image is None for task in tasks)
    if lacks and any(control.source is None for control in controls):
        raise CnctlError("no image", hint="give one, or one per condition: --cond canny:x.png")


def _without(failures: Failures, tasks: Sequence[Task]) -> list[Task]:
    """The tasks whose images have not failed; SomeInputsFailed where none is left."""
    bad = {failure.image for failure in failures.failed}
    left = [task for task in tasks if task.image not in bad]
    if not left:
        raise SomeInputsFailed(f"all of the {len(bad)} inputs failed")
    return left


def _plan(request: GenerateRequest) -> Plan:
    return Plan(
        out=Path(request.out),
        name=request.name,
        count=request.count,
        seed=request.seed,
        overwrite=request.overwrite,
        resume=request.resume,
    )


def _choose_threads(base: Base) -> None:
    """A small U-Net gains nothing from a second thread, and loses much where the CPU is busy."""
    parameters = sum(parameter.numel() for parameter in base.denoiser.parameters())
    if base.device.type == "cpu" and parameters < SMALL_UNET:
        torch.set_num_threads(1)


def _settings_of(settings: GenerateSettings, task: Task) -> GenerateSettings:
    swept = {name: value for name, value in task.variant.items() if name != "prompt"}
    return replace(settings, **swept)


def _check_run(
    request: GenerateRequest, tasks: Sequence[Task], settings: GenerateSettings, base: Base
) -> None:
    for chosen in {_settings_of(settings, task) for task in tasks}:
        _check_settings(chosen, base)
    if request.size and any(side % base.latent_factor for side in request.size):
        width, height = request.size
        raise CnctlError(
            f"{width}x{height} pixels cannot be generated",
            hint=f"width and height must be multiples of {base.latent_factor}",
        )


def _to_read(
    base: Base, tasks: Sequence[Task], settings: GenerateSettings
) -> set[tuple[str, int, PromptOptions]]:
    """All that text encoders will be asked for: prompts, in how many chunks, and how."""
    keys = set()
    for task in tasks:
        chosen = _settings_of(settings, task)
        options, prompts = prompt_options_of(chosen), prompts_of(task, chosen)
        chunks = count_chunks(base, *prompts, options=options)
        keys |= {(prompt, chunks, options) for prompt in prompts}
    return keys


def prompts_of(task: Task, settings: GenerateSettings) -> list[str]:
    """What is read for one image: without guidance a negative prompt has no effect."""
    guided = settings.guidance_scale != 1
    return [task.prompt, *([task.negative_prompt] if guided else [])]


def _resolve(condition: Condition, base: Base, given: Mapping[str, Any]) -> GenerateSettings:
    of_base = {"resolution": base.resolution} | dict(base.defaults)
    return resolve(GenerateSettings, of_base, asdict(condition.generate), flags=given)


def _check_settings(settings: GenerateSettings, base: Base) -> None:
    if settings.resolution < base.latent_factor:
        raise CnctlError(f"--resolution {settings.resolution} is too small", hint="try 512")
    if settings.clip_skip > (most := most_clip_skip(base)):
        raise CnctlError(
            f"--clip-skip {settings.clip_skip}: {base.name} has layers 1 to {most} to read",
            hint="1 is the usual one, 2 that of many anime bases",
        )


def prompt_options_of(settings: GenerateSettings) -> PromptOptions:
    """How prompts are read by these settings."""
    return PromptOptions(emphasis=settings.emphasis, clip_skip=settings.clip_skip)


def _note_long_prompt(base: Base, prompt: str, note: Note, *, options: PromptOptions) -> None:
    chunks = count_chunks(base, prompt, options=options)
    if chunks > 1:
        size = chunk_size(base)
        note(f"the prompt is long: {base.name} reads it in {chunks} parts of {size} tokens")


def _open_rewriter(request: GenerateRequest, base: Base) -> Caption:
    caption = open_captioner(request.captioner, base)
    return lambda image: with_added(caption(image), request.added_prompt)
