"""Everything of a run that can be checked without weights: inputs are read, outputs named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cnctl.commands.generate.adapters import check_adapters
from cnctl.commands.generate.events import OnEvent
from cnctl.commands.generate.image_to_image import ImageToEdit, read_edit
from cnctl.commands.generate.outputs import OutputLayout, PlannedImage, Task
from cnctl.commands.generate.pictures import Pictures
from cnctl.commands.generate.plan import RunPlan
from cnctl.commands.generate.regions import read_region
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.sources import check_sources
from cnctl.commands.shared.cached import find_named
from cnctl.commands.shared.events import Note
from cnctl.commands.shared.failures import Failures
from cnctl.errors import CnctlError, SomeInputsFailed, counted
from cnctl.models.layouts import find_layout
from cnctl.system.cores import cores


@dataclass(frozen=True, kw_only=True)
class CheckedRun:
    """A plan without the tasks whose images failed, and what was read and named for it.

    regions: where each control acts, as `read_region` returns it.
    """

    plan: RunPlan
    layout: OutputLayout
    images: Sequence[PlannedImage]
    pictures: Pictures
    to_edit: ImageToEdit | None
    regions: Sequence[np.ndarray | None]
    failures: Failures


def check_run(plan: RunPlan, on_event: OnEvent) -> CheckedRun:
    """Read every input and name every output.

    An image that cannot be read is reported and left out, if there are others. Raises CnctlError
    where nothing is left, and OutputError where an output exists.
    """
    request = plan.request
    pictures = Pictures(note=lambda text: on_event(Note(text)))
    if request.threads and request.threads > (most := cores()):
        raise CnctlError(f"--threads {request.threads} of {most} cores", hint=f"use 1 to {most}")
    to_edit = read_edit(request.image, request.mask, request.strength, pictures=pictures)
    regions = [read_region(control.region) for control in plan.controls]
    failures = Failures(on_event, alone=len(plan.images) == 1)
    check_sources(
        plan.controls,
        plan.conditions,
        plan.images,
        ready=request.ready_hint,
        pictures=pictures,
        failures=failures,
    )
    tasks = _without(failures, plan.tasks)
    layout = _layout(request)
    images = layout.plan(tasks)
    if len(request.weights) == len(plan.controls):
        for name in request.weights:
            find_layout(find_named(name))
    check_adapters(request.loras, request.embeddings)
    return CheckedRun(
        plan=replace(plan, tasks=tasks),
        layout=layout,
        images=images,
        pictures=pictures,
        to_edit=to_edit,
        regions=regions,
        failures=failures,
    )


def _without(failures: Failures, tasks: Sequence[Task]) -> list[Task]:
    """The tasks whose images have not failed; SomeInputsFailed where none is left."""
    bad = {failure.image for failure in failures.failed}
    left = [task for task in tasks if task.image not in bad]
    if not left:
        raise SomeInputsFailed(f"{counted(len(bad), 'input')} failed, and no other is left")
    return left


def _layout(request: GenerateRequest) -> OutputLayout:
    return OutputLayout(
        out=Path(request.out),
        name=request.name,
        count=request.count,
        seed=request.seed,
        save_steps=request.save_steps is not None,
        overwrite=request.overwrite,
        resume=request.resume,
    )
