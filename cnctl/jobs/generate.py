"""`cnctl generate`: a hint (or an image to detect it in) and a prompt, to images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.core.sampling import sample
from cnctl.jobs.controls import make_hints, note_dead_hints
from cnctl.jobs.generate_setup import GenerateRequest, Setup, prepare
from cnctl.jobs.outputs import GeneratedImage, Shot, keep_hints, write_shot
from cnctl.jobs.provenance import describe_control, describe_edit, differences


def generate(
    request: GenerateRequest,
    *,
    note: Callable[[str], None] = lambda text: None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[GeneratedImage]:
    """Make the images that are asked for; yields each when it is written.

    Every input is checked before weights are loaded, and nothing is written before all is loaded.
    on_step(done, total): image steps.
    """
    setup = prepare(request, note=note)
    rounds = 2 if setup.rewrite else 1
    counter = _Counter(on_step, total=rounds * len(setup.shots) * setup.settings.steps)
    for batch in _batches(_pose(setup), request.batch_size):
        batch = batch * request.in_batch[1]
        prompts = [one.shot.task.prompt for one in batch]
        if setup.rewrite:
            prompts = [setup.rewrite(image) for image in _sample(setup, batch, prompts, counter)]
        pictures = _sample(setup, batch, prompts, counter)
        for index in _places(request, batch):
            one, picture = batch[index], pictures[index]
            whole = setup.edited.paste(picture) if setup.edited else picture
            record = _record(setup, batch, index, prompts[index])
            for difference in differences(record, request.origin) if request.origin else ():
                note(difference)
            yield write_shot(one.shot, whole, one.stored[0], record, private=request.private)


@dataclass(frozen=True, kw_only=True)
class _Posed:
    """An image to make, with its hints made: one per branch, uint8 (h, w, C), of one size."""

    shot: Shot
    hints: Sequence[np.ndarray]
    sources: Sequence[Path]
    stored: Sequence[Path]
    """The files that hold the hints."""


class _Counter:
    """Turns the steps of batches into image steps of the whole run."""

    def __init__(self, on_step: Callable[[int, int], None], *, total: int) -> None:
        self.on_step, self.total, self.before = on_step, total, 0

    def of_batch(self, images: int, steps: int) -> Callable[[int], None]:
        """What to call after each step of the next batch."""
        before, self.before = self.before, self.before + images * steps
        return lambda step: self.on_step(before + step * images, self.total)


def _pose(setup: Setup) -> Iterator[_Posed]:
    """Make the hints of each input once, when its first image is due."""
    ready, out = setup.request.ready_hint, Path(setup.request.out)
    for image, group in itertools.groupby(setup.shots, key=lambda shot: shot.task.image):
        shots = list(group)
        hints, sources = make_hints(
            setup.branches,
            image,
            ready=ready,
            resolution=setup.settings.resolution,
            edited=setup.edited,
        )
        note_dead_hints(hints, sources, setup.note)
        stored = sources if ready else keep_hints(shots[0].task, out, hints)
        for shot in shots:
            yield _Posed(shot=shot, hints=hints, sources=sources, stored=stored)


def _batches(posed: Iterator[_Posed], size: int) -> Iterator[list[_Posed]]:
    """What can be denoised at once: neighbours whose hints are of one size, at most so many."""
    batch: list[_Posed] = []
    for one in posed:
        if batch and (len(batch) == size or one.hints[0].shape != batch[0].hints[0].shape):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _sample(
    setup: Setup, batch: Sequence[_Posed], prompts: Sequence[str], counter: _Counter
) -> np.ndarray:
    """Images uint8 (B, H, W, 3), denoised at once."""
    height, width = batch[0].hints[0].shape[:2]
    settings = setup.settings
    return sample(
        setup.base,
        [b.control([one.hints[i] for one in batch]) for i, b in enumerate(setup.branches)],
        prompts,
        negative_prompts=[one.shot.task.negative_prompt for one in batch],
        seeds=[one.shot.seed for one in batch],
        height=height,
        width=width,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        scheduler=settings.scheduler,
        edit=setup.edited.fitted((height, width)) if setup.edited else None,
        on_step=counter.of_batch(len(batch), settings.steps),
    )


def _places(request: GenerateRequest, batch: Sequence[_Posed]) -> Iterable[int]:
    """Which images of a batch are wanted: all, or one among its own copies."""
    place, size = request.in_batch
    return [place] if size > 1 else range(len(batch))


def _record(setup: Setup, batch: Sequence[_Posed], index: int, prompt: str) -> dict[str, Any]:
    """All that made an image of a batch; another batch size may round its last bits otherwise."""
    one = batch[index]
    given = zip(setup.branches, one.sources, one.hints, one.stored, strict=True)
    return {
        **setup.description,
        "prompt": prompt,
        "negative_prompt": one.shot.task.negative_prompt,
        "controls": [describe_control(*each) for each in given],
        "batch": {"index": index, "size": len(batch)},
        **({"edit": describe_edit(setup.edited)} if setup.edited else {}),
    }
