"""`cnctl generate`: a hint (or an image to detect it in) and a prompt, to images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.commands.generate.describe import (
    complete_record,
    describe_hint,
    plan_record,
    unasked_differences,
)
from cnctl.commands.generate.hints import (
    list_sources,
    make_hints,
    note_dead_hints,
    note_other_aspects,
)
from cnctl.commands.generate.outputs import (
    GeneratedImage,
    Shot,
    generated,
    hint_paths,
    write_hints,
    write_shot,
)
from cnctl.commands.generate.record import BatchRecord, ImageRecord, read_record
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.setup import (
    Setup,
    memory_told,
    prepare,
    prompt_options_of,
    prompts_of,
)
from cnctl.commands.generate.step_sheets import StepSheets
from cnctl.commands.shared.events import FailedImage
from cnctl.errors import CnctlError, OutputError, SomeInputsFailed
from cnctl.models.prompts import count_chunks
from cnctl.sampling.denoise import OnPreview, sample
from cnctl.settings import GenerateSettings


def generate(
    request: GenerateRequest,
    *,
    note: Callable[[str], None] = lambda text: None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    on_failure: Callable[[FailedImage], None] | None = None,
    on_preview: OnPreview = lambda done, images: None,
) -> Iterator[GeneratedImage]:
    """Make the images that are asked for; yields each when it is written.

    Every input is checked before weights are loaded, and nothing is written before all is loaded.
    on_step(done, total): image steps. One bad input among others is told to on_failure, and the
    rest goes on; without on_failure SomeInputsFailed is raised at the end. on_preview(done,
    images): what a batch is heading for after so many steps, where `save_steps` asks for it.
    """
    with memory_told(request, "the networks"):
        setup = prepare(request, note=note, on_failure=on_failure or (lambda failure: None))
    yield from _kept(setup)
    shots = [shot for shot in setup.shots if not shot.done]
    rounds = (2 if setup.rewrite else 1) * request.in_batch[1]
    counter = _Counter(on_step, steps=_steps(setup, shots), rounds=rounds)
    for batch in _batches(setup, _pose(setup, shots, counter)):
        batch = batch * request.in_batch[1]
        for alike in _rewritten(setup, batch, counter) if setup.rewrite else [batch]:
            yield from _make(setup, alike, counter, on_preview)
    if on_failure is None and (failed := setup.failures.failed):
        raise SomeInputsFailed(f"{len(failed)} inputs failed: {failed[0].error}")


@dataclass(frozen=True, kw_only=True)
class _Posed:
    """An image to make, with its hints made: one per branch, uint8 (h, w, C), of one size.

    prompt: the task's, or in the automatic mode what a first image is captioned.
    """

    shot: Shot
    prompt: str
    settings: GenerateSettings
    hints: Sequence[np.ndarray]
    sources: Sequence[Path]
    stored: Sequence[Path]
    """The files that hold the hints."""


class _Counter:
    """Turns the steps of batches into image steps of the whole run."""

    def __init__(self, on_step: Callable[[int, int], None], *, steps: int, rounds: int) -> None:
        self.on_step, self.rounds = on_step, rounds
        self.total, self.before = steps * rounds, 0

    def of_batch(self, images: int, steps: int) -> Callable[[int], None]:
        """What to call after each step of the next batch."""
        before, self.before = self.before, self.before + images * steps
        return lambda step: self.on_step(before + step * images, self.total)

    def leave_out(self, steps: int) -> None:
        """So many steps are not taken."""
        self.total -= steps * self.rounds


def _kept(setup: Setup) -> list[GeneratedImage]:
    """The images that are there already, each checked to be what would be made again."""
    kept = []
    for shot in setup.shots:
        if shot.done:
            kept.append(_keep(setup, shot))
    if kept:
        setup.note(f"{len(kept)} images were there already")
    return kept


def _keep(setup: Setup, shot: Shot) -> GeneratedImage:
    """An image that is there already; OutputError where it was made otherwise."""
    sources = list_sources(setup.branches, shot.task.image)
    planned = plan_record(setup, shot, sources)
    other = "take another --seed or -o, or --overwrite"
    try:
        found = read_record(shot.path)
    except CnctlError as error:
        raise OutputError(str(error), hint=other) from error
    if setup.rewrite:
        planned = replace(planned, prompt=found.prompt)
    if changed := planned.differences(found):
        raise OutputError(f"{shot.path} was made otherwise: {', '.join(changed[:3])}", hint=other)
    hint = _stored(setup, shot, sources)[0]
    return generated(shot, hint.with_name(found.controls[0].hint.name), found)


def _pose(setup: Setup, shots: Sequence[Shot], counter: _Counter) -> Iterator[_Posed]:
    """Make the hints of each input once for each working size, when its first image is due.

    An input without a hint is left out, if there are others.
    """

    def key(shot: Shot) -> tuple[Path | None, int, str]:
        settings = setup.settings_of(shot.task)
        return shot.task.image, settings.resolution, settings.resize

    for (image, *_), group in itertools.groupby(shots, key=key):
        alike = list(group)
        posed: list[_Posed] = []
        with setup.failures.of(image) if image else nullcontext():
            posed = _pose_alike(setup, alike)
        if not posed:
            counter.leave_out(_steps(setup, alike))
        yield from posed


def _pose_alike(setup: Setup, shots: Sequence[Shot]) -> list[_Posed]:
    """The shots of one input at one working size, with their hints made and written."""
    request, task = setup.request, shots[0].task
    settings = setup.settings_of(task)
    hints, sources = make_hints(
        setup.branches,
        task.image,
        pictures=setup.pictures,
        settings=settings,
        size=(request.size[1], request.size[0]) if request.size else None,
        edited=setup.edited,
    )
    note_dead_hints(hints, sources, setup.note)
    note_other_aspects(sources, hints, settings, note=setup.note)
    stored = _stored(setup, shots[0], sources)
    made = [i for i, branch in enumerate(setup.branches) if not branch.ready]
    written = write_hints(
        [stored[i] for i in made],
        [hints[i] for i in made],
        overwrite=request.overwrite,
        written=setup.written,
    )
    for i, path in zip(made, written, strict=True):
        stored[i] = path
    return [
        _Posed(
            shot=shot,
            prompt=shot.task.prompt,
            settings=setup.settings_of(shot.task),
            hints=hints,
            sources=sources,
            stored=stored,
        )
        for shot in shots
    ]


def _steps(setup: Setup, shots: Sequence[Shot]) -> int:
    return sum(setup.settings_of(shot.task).steps for shot in shots)


def _stored(setup: Setup, shot: Shot, sources: Sequence[Path]) -> list[Path]:
    """The files that hold the hints of a shot: their sources, or those that are written."""
    channels = [branch.condition.stored_channels for branch in setup.branches]
    paths = hint_paths(shot.task, Path(setup.request.out), channels)
    return [
        source if branch.ready else path
        for branch, source, path in zip(setup.branches, sources, paths, strict=True)
    ]


def _batches(setup: Setup, posed: Iterator[_Posed]) -> Iterator[list[_Posed]]:
    """What can be denoised at once: neighbours of one size, one length and one set of settings."""

    def key(one: _Posed) -> tuple[Any, ...]:
        return one.settings, one.hints[0].shape[:2], _chunks(setup, one)

    for _, group in itertools.groupby(posed, key=key):
        while batch := list(itertools.islice(group, setup.request.at_once)):
            yield batch


def _chunks(setup: Setup, one: _Posed) -> int:
    """Parts that its prompts are read in; all prompts of a batch are read in as many."""
    prompts = prompts_of(replace(one.shot.task, prompt=one.prompt), one.settings)
    return count_chunks(setup.base, *prompts, options=prompt_options_of(one.settings))


def _rewritten(
    setup: Setup, batch: Sequence[_Posed], counter: _Counter
) -> Iterator[Sequence[_Posed]]:
    """The automatic mode: the same images with captions for prompts, each length by itself."""
    assert setup.rewrite
    captions = map(setup.rewrite, _sample(setup, batch, counter))
    captioned = [replace(one, prompt=text) for one, text in zip(batch, captions, strict=True)]
    lengths = [_chunks(setup, one) for one in captioned]
    for length in dict.fromkeys(lengths):
        yield [one for one, own in zip(captioned, lengths, strict=True) if own == length]


def _make(
    setup: Setup, batch: Sequence[_Posed], counter: _Counter, on_preview: OnPreview
) -> Iterator[GeneratedImage]:
    """Denoise and write a batch, with the sheets of its steps where they are asked for."""
    request = setup.request
    places = _places(request, batch)
    sheets = StepSheets({place: batch[place].shot.path for place in places})

    def show(done: int, pictures: np.ndarray) -> None:
        sheets.add(done, pictures)
        on_preview(done, pictures[[*places]])

    pictures = _sample(setup, batch, counter, show if request.save_steps else None)
    if request.save_steps:
        sheets.add(batch[0].settings.steps, pictures)
    for place in places:
        one, picture = batch[place], pictures[place]
        whole = setup.edited.paste(picture) if setup.edited else picture
        record = _record(setup, batch, place, whole)
        for difference in unasked_differences(record, request.origin) if request.origin else ():
            setup.note(difference)
        yield write_shot(one.shot, whole, one.stored[0], record, private=request.private)


def _sample(
    setup: Setup,
    batch: Sequence[_Posed],
    counter: _Counter,
    on_preview: OnPreview | None = None,
) -> np.ndarray:
    """Images uint8 (B, H, W, 3), denoised at once."""
    height, width = batch[0].hints[0].shape[:2]
    settings = batch[0].settings
    base, controls = setup.base, []
    for i, branch in enumerate(setup.branches):
        base, more = branch.attach(base, [one.hints[i] for one in batch], settings)
        controls += more
    with memory_told(setup.request, f"{len(batch)} of {width}x{height} pixels at once"):
        return sample(
            base,
            controls,
            [one.prompt for one in batch],
            negative_prompts=[one.shot.task.negative_prompt for one in batch],
            seeds=[one.shot.seed for one in batch],
            height=height,
            width=width,
            steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            scheduler=settings.scheduler,
            options=prompt_options_of(settings),
            edit=setup.edited.fitted((height, width)) if setup.edited else None,
            on_step=counter.of_batch(len(batch), settings.steps),
            on_preview=on_preview,
            preview_every=setup.request.save_steps or 1,
        )


def _places(request: GenerateRequest, batch: Sequence[_Posed]) -> Sequence[int]:
    """Which images of a batch are wanted: all, or one among its own copies."""
    place, size = request.in_batch
    return [place] if size > 1 else range(len(batch))


def _record(setup: Setup, batch: Sequence[_Posed], index: int, image: np.ndarray) -> ImageRecord:
    """All that made an image (H, W, 3) of a batch."""
    one = batch[index]
    return complete_record(
        plan_record(setup, one.shot, one.sources),
        image,
        prompt=one.prompt,
        device=setup.base.device.type,
        batch=BatchRecord(index=index, size=len(batch)),
        hints=[describe_hint(*pair) for pair in zip(one.hints, one.stored, strict=True)],
    )
