"""What a request asks for, by names alone: nothing is decoded or loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnctl.commands.generate.controls import defer_to, parse_all_options, parse_control
from cnctl.commands.generate.image_to_image import check_edit
from cnctl.commands.generate.outputs import Task
from cnctl.commands.generate.prompts import (
    DEFAULT_PROMPT,
    choose_prompts,
    default_prompt,
    with_added,
)
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.tasks import list_tasks, read_jobs, sweep_over
from cnctl.commands.shared.bases import read_base_defaults
from cnctl.errors import CnctlError
from cnctl.hints.outputs import find_photographs
from cnctl.images import ImageFile, find_images
from cnctl.plugin import Condition, OptionValue
from cnctl.registry import get_condition
from cnctl.system.lines import as_text


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The tasks of a run, and for each control its condition and its detector's options."""

    request: GenerateRequest
    controls: Sequence[ControlSpec]
    conditions: Sequence[Condition]
    options: Sequence[Mapping[str, OptionValue]]
    tasks: Sequence[Task]

    @property
    def images(self) -> list[Path | None]:
        """The images of all tasks, each once; None for a task without one."""
        return [*dict.fromkeys(task.image for task in self.tasks)]


def plan_run(request: GenerateRequest, note: Callable[[str], None]) -> RunPlan:
    """The plan of a request; CnctlError where it contradicts itself or names too little."""
    controls = [
        defer_to(request.sweep, parse_control(c) if isinstance(c, str) else c)
        for c in request.controls
    ]
    tasks = _list_tasks(request, controls, note)
    check_edit(request.image, request.mask, request.strength)
    _check_inputs(controls, tasks)
    conditions = [get_condition(control.condition) for control in controls]
    return RunPlan(
        request=request,
        controls=controls,
        conditions=conditions,
        options=parse_all_options(conditions, request.options),
        tasks=tasks,
    )


def _list_tasks(
    request: GenerateRequest, controls: Sequence[ControlSpec], note: Callable[[str], None]
) -> list[Task]:
    prompts = _prompts(request)
    shared = {
        "conditions": "" if request.called else "+".join(c.condition for c in controls),
        "negative_prompt": as_text(request.negative_prompt, "the negative prompt"),
    }
    if request.jobs is not None:
        if request.images or len(prompts) > 1:
            raise CnctlError("--jobs names images and prompts itself", hint="leave out others")
        tasks = read_jobs(Path(request.jobs), prompt=prompts[0], **shared)
    else:
        own = controls[0].source if controls and not request.images else None
        called = request.called or (Path(own).stem if own else "")
        tasks = list_tasks(_images(request, note), prompts, called=called, **shared)
    return sweep_over(tasks, request.sweep)


def _prompts(request: GenerateRequest) -> list[str]:
    given = [request.prompt] if isinstance(request.prompt, str) else request.prompt or []
    default = DEFAULT_PROMPT if given else default_prompt(read_base_defaults(request.base))
    prompts = choose_prompts(given, request.prompt_mode, default=default)
    return [as_text(with_added(prompt, request.added_prompt), "the prompt") for prompt in prompts]


def _images(request: GenerateRequest, note: Callable[[str], None]) -> list[ImageFile | None]:
    if request.image is not None and not request.images and not request.ready_hint:
        edited = Path(request.image)
        return [ImageFile(edited, Path(edited.name))]
    if request.ready_hint:
        return [*find_images(request.images)] or [None]
    return [*find_photographs(request.images, note)] or [None]


def _check_inputs(controls: Sequence[ControlSpec], tasks: Sequence[Task]) -> None:
    if not controls:
        raise CnctlError(
            "no condition is named", hint="name one: --cond canny; see cnctl conditions"
        )
    lacks = any(task.image is None for task in tasks)
    if lacks and any(control.source is None for control in controls):
        raise CnctlError(
            "no image is named", hint="give one, or one per condition: --cond canny:x.png"
        )
