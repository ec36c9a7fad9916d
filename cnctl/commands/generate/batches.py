"""Batches of images of `cnctl generate`: prepared, denoised and written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnctl.commands.generate.describe import (
    complete_record,
    describe_hint,
    plan_record,
    unasked_differences,
)
from cnctl.commands.generate.events import Preview
from cnctl.commands.generate.free_names import with_free_names
from cnctl.commands.generate.generated import GeneratedImage, write_generated
from cnctl.commands.generate.memory import out_of_memory_hint
from cnctl.commands.generate.outputs import PlannedImage
from cnctl.commands.generate.prepared_images import PreparedImage, prepare_images
from cnctl.commands.generate.prompt_reading import prompt_chunks, prompt_options
from cnctl.commands.generate.record import BatchRecord, ImageRecord
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.setup import Setup
from cnctl.commands.generate.step_sheets import StepSheets
from cnctl.commands.generate.threads import choose_threads, on_threads
from cnctl.commands.shared.events import Stage
from cnctl.errors import OutputExists
from cnctl.sampling.denoise import OnPreview, sample


def make_images(setup: Setup, images: Sequence[PlannedImage]) -> Iterator[GeneratedImage]:
    """Make images that are not there yet; yields each when it is written."""
    counter = _StepCounter(setup, images)
    for batch in _batches(setup, prepare_images(setup, images, leave_out=counter.leave_out)):
        yield from _make_batch(setup, batch, counter)


class _StepCounter:
    """Turns the steps of batches into events that count the steps of all images."""

    def __init__(self, setup: Setup, images: Sequence[PlannedImage]) -> None:
        self.setup = setup
        self.rounds = (2 if setup.recaption else 1) * setup.request.in_batch[1]
        self.total, self.before = self._steps(images), 0

    def count_batch(self, images: int, steps: int) -> Callable[[int], None]:
        """The `on_step` of the next batch."""
        before, self.before = self.before, self.before + images * steps
        report = self.setup.on_event
        return lambda step: report(Stage("denoising", before + step * images, self.total, "steps"))

    def add(self, images: Sequence[PlannedImage]) -> None:
        """These images are made once more."""
        self.total += self._steps(images)

    def leave_out(self, images: Sequence[PlannedImage]) -> None:
        """These images are not made."""
        self.total -= self._steps(images)

    def _steps(self, images: Sequence[PlannedImage]) -> int:
        return self.rounds * sum(self.setup.settings_of(image.task).steps for image in images)


def _batches(setup: Setup, images: Iterable[PreparedImage]) -> Iterator[list[PreparedImage]]:
    """Neighbours that can be denoised at once: of one size, one length, one set of settings."""

    def key(image: PreparedImage) -> tuple[Any, ...]:
        return image.settings, image.size, _chunks(setup, image)

    for _, group in itertools.groupby(images, key=key):
        while batch := list(itertools.islice(group, setup.request.at_once)):
            yield batch


def _chunks(setup: Setup, image: PreparedImage) -> int:
    """The number of chunks that its prompts are read in, the same for a whole batch."""
    return prompt_chunks(setup.base, image.task, image.settings)


def _make_batch(
    setup: Setup, batch: Sequence[PreparedImage], counter: _StepCounter
) -> Iterator[GeneratedImage]:
    """Make a batch, and once more those of its images whose names other runs take meanwhile."""
    while batch := (yield from with_free_names(setup, batch)):
        taken: list[PreparedImage] = []
        for alike in _recaptioned(setup, batch, counter) if setup.recaption else [batch]:
            taken += yield from _make(setup, alike, counter)
        counter.add([image.planned for image in taken])
        batch = taken


def _recaptioned(
    setup: Setup, batch: Sequence[PreparedImage], counter: _StepCounter
) -> Iterator[Sequence[PreparedImage]]:
    """The automatic mode: the same images with captions for prompts, each length by itself."""
    assert setup.recaption
    captions = map(setup.recaption, _sample(setup, batch, counter))
    captioned = [replace(one, prompt=text) for one, text in zip(batch, captions, strict=True)]
    lengths = [_chunks(setup, image) for image in captioned]
    for length in dict.fromkeys(lengths):
        yield [one for one, own in zip(captioned, lengths, strict=True) if own == length]


def _make(
    setup: Setup, batch: Sequence[PreparedImage], counter: _StepCounter
) -> Generator[GeneratedImage, None, list[PreparedImage]]:
    """Denoise and write a batch, with the sheets of its steps where they are asked for.

    Returns the images that are not written, as another run has taken the names.
    """
    request, taken = setup.request, []
    batch = [*batch] * request.in_batch[1]
    places = _places(request, batch)
    sheets = StepSheets(
        {place: batch[place].planned.path for place in places},
        overwrite=request.overwrite or request.resume,
    )

    def show(step: int, pictures: np.ndarray) -> None:
        sheets.add(step, pictures)
        setup.on_event(Preview(step, pictures[[*places]]))

    pictures = _sample(setup, batch, counter, show if request.save_steps else None)
    if request.save_steps:
        sheets.add(batch[0].settings.steps, pictures)
    for place in places:
        image, picture = batch[place], pictures[place]
        whole = setup.to_edit.paste(picture) if setup.to_edit else picture
        record = _record(setup, batch, place, whole)
        for difference in unasked_differences(record, request.origin) if request.origin else ():
            setup.note(difference)
        try:
            sheets.check(place)
            made = write_generated(
                image.planned,
                whole,
                image.stored[0],
                record,
                private=request.private,
                overwrite=request.overwrite,
            )
        except OutputExists:
            sheets.remove(place)
            taken.append(image)
        else:
            yield made
    return taken


def _sample(
    setup: Setup,
    batch: Sequence[PreparedImage],
    counter: _StepCounter,
    on_preview: OnPreview | None = None,
) -> np.ndarray:
    """Images uint8 (B, H, W, 3), denoised at once."""
    height, width = batch[0].size
    settings = batch[0].settings
    base, attached = setup.base, []
    to_fill_in = setup.to_edit.hint((height, width)) if setup.to_edit else None
    for i, control in enumerate(setup.controls):
        hints = [image.hints[i] for image in batch]
        base, more = control.attach(base, hints, settings, to_fill_in=to_fill_in)
        attached += more
    what = f"{len(batch)} of {width}x{height} pixels at once"
    threads = on_threads(_threads(setup, batch))
    with out_of_memory_hint(setup.request, what, denoising=True), threads:
        return sample(
            base,
            attached,
            [image.prompt for image in batch],
            negative_prompts=[image.task.negative_prompt for image in batch],
            seeds=[image.planned.seed for image in batch],
            height=height,
            width=width,
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            guidance_interval=(settings.guidance_start, settings.guidance_end),
            distilled_guidance=settings.distilled_guidance,
            scheduler=settings.scheduler,
            control_every=settings.control_every,
            options=prompt_options(settings),
            edit=setup.to_edit.fitted((height, width)) if setup.to_edit else None,
            on_step=counter.count_batch(len(batch), settings.steps),
            on_preview=on_preview,
            preview_every=setup.request.save_steps or 1,
        )


def _threads(setup: Setup, batch: Sequence[PreparedImage]) -> int:
    height, width = batch[0].size
    pixels = len(batch) * height * width
    return choose_threads(setup.base, pixels=pixels, asked=setup.request.threads)


def _places(request: GenerateRequest, batch: Sequence[PreparedImage]) -> Sequence[int]:
    """The places in a batch of the images that are wanted: all, or one among its own copies."""
    place, size = request.in_batch
    return [place] if size > 1 else range(len(batch))


def _record(
    setup: Setup, batch: Sequence[PreparedImage], index: int, picture: np.ndarray
) -> ImageRecord:
    """The record of one image (H, W, 3) of a batch."""
    image = batch[index]
    return complete_record(
        plan_record(setup, image.planned, image.sources),
        picture,
        prompt=image.prompt,
        device=setup.base.device.type,
        threads=_threads(setup, batch),
        compiled=setup.request.compile,
        batch=BatchRecord(index=index, size=len(batch)),
        hints=[describe_hint(*pair) for pair in zip(image.hints, image.stored, strict=True)],
    )
