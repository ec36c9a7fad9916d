"""The images of a run with their hints made, one input after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cnctl.commands.generate.hint_files import hint_paths, write_hints
from cnctl.commands.generate.hints import (
    make_hints,
    note_dead_hints,
    note_other_aspects,
)
from cnctl.commands.generate.outputs import PlannedImage, Task
from cnctl.commands.generate.ready_hints import note_unlikely_hints
from cnctl.commands.generate.setup import Setup
from cnctl.settings import GenerateSettings


@dataclass(frozen=True, kw_only=True)
class PreparedImage:
    """An image to make, with its hints: one per control, uint8 (h, w, C), all of one size.

    prompt: the task's, or in the automatic mode the caption of a first image. sources: the file
    that each control reads. stored: the file that holds each hint.
    """

    planned: PlannedImage
    prompt: str
    settings: GenerateSettings
    hints: Sequence[np.ndarray]
    sources: Sequence[Path]
    stored: Sequence[Path]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.hints[0].shape[:2]
        return height, width

    @property
    def task(self) -> Task:
        """The task, with the prompt that the image is made with."""
        return replace(self.planned.task, prompt=self.prompt)


def prepare_images(
    setup: Setup,
    images: Sequence[PlannedImage],
    *,
    leave_out: Callable[[Sequence[PlannedImage]], None],
) -> Iterator[PreparedImage]:
    """Make the hints of each input once for each working size, when its first image is due.

    Images whose input gives no hint are passed to `leave_out`, if there are other inputs.
    """

    def key(planned: PlannedImage) -> tuple[Path | None, int, str]:
        settings = setup.settings_of(planned.task)
        return planned.task.image, settings.resolution, settings.resize

    for (image, *_), group in itertools.groupby(images, key=key):
        alike = list(group)
        prepared: list[PreparedImage] = []
        with setup.failures.of(image) if image else nullcontext():
            prepared = _prepare_alike(setup, alike)
        if not prepared:
            leave_out(alike)
        yield from prepared


def _prepare_alike(setup: Setup, images: Sequence[PlannedImage]) -> list[PreparedImage]:
    """The images of one input at one working size, with their hints made and written."""
    request, task = setup.request, images[0].task
    settings = setup.settings_of(task)
    hints, sources = make_hints(
        setup.controls,
        task.image,
        pictures=setup.pictures,
        settings=settings,
        multiple=setup.base.size_multiple,
        size=(request.size[1], request.size[0]) if request.size else None,
        to_edit=setup.to_edit,
    )
    note_dead_hints(hints, sources, setup.note)
    note_unlikely_hints(setup.controls, hints, sources, setup.note)
    note_other_aspects(sources, hints, settings, note=setup.note)
    stored = _write(setup, hints, stored_hints(setup, task, sources))
    return [
        PreparedImage(
            planned=planned,
            prompt=planned.task.prompt,
            settings=setup.settings_of(planned.task),
            hints=hints,
            sources=sources,
            stored=stored,
        )
        for planned in images
    ]


def stored_hints(setup: Setup, task: Task, sources: Sequence[Path]) -> list[Path]:
    """The files that are to hold the hints of a task: its sources, or those that are written."""
    channels = [control.condition.stored_channels for control in setup.controls]
    paths = hint_paths(task, Path(setup.request.out), channels)
    return [
        source if control.ready else path
        for control, source, path in zip(setup.controls, sources, paths, strict=True)
    ]


def _write(setup: Setup, hints: Sequence[np.ndarray], stored: Sequence[Path]) -> list[Path]:
    """Write the hints that were made, not read; where each hint is then."""
    made = [i for i, control in enumerate(setup.controls) if not control.ready]
    written = write_hints(
        [stored[i] for i in made],
        [hints[i] for i in made],
        overwrite=setup.request.overwrite,
        written=setup.written,
    )
    now = dict(zip(made, written, strict=True))
    return [now.get(i, path) for i, path in enumerate(stored)]
