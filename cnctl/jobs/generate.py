"""`cnctl generate`: a hint (or an image to detect it in) and a prompt, to images."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cnctl
from cnctl.core.base import Base
from cnctl.core.sampling import sample
from cnctl.errors import CnctlError
from cnctl.jobs.controls import (
    ACTS,
    Branch,
    ControlSpec,
    check_sources,
    make_hints,
    note_dead_hints,
    open_branches,
    parse_all_options,
)
from cnctl.jobs.edits import EditedImage, read_edit
from cnctl.jobs.outputs import GeneratedImage, Request, Shot, keep_hint, plan_shots, write_shot
from cnctl.jobs.prompts import choose_prompt
from cnctl.jobs.weights import open_base
from cnctl.plugin import Condition
from cnctl.registry import get_condition
from cnctl.settings import GenerateSettings, resolve

SMALL_UNET = 50_000_000
"""Parameters."""
_PER_CONTROL = {f"control_{name}" for name in ACTS}


def generate(
    controls: Sequence[ControlSpec],
    images: Sequence[Path] = (),
    prompt: str | None = None,
    *,
    out: Path = Path("out"),
    negative_prompt: str = "",
    prompt_mode: str | None = None,
    ready_hint: bool = False,
    options: Sequence[str] = (),
    weights: Sequence[str] = (),
    image: Path | None = None,
    mask: Path | None = None,
    strength: float | None = None,
    base: str | None = None,
    count: int = 1,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 4,
    device: str | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
    note: Callable[[str], None] = lambda text: None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[GeneratedImage]:
    """Generate `count` images for each input under all controls at once; yields each when written.

    images: what every control without a source of its own reads; may be empty if each has one.
    ready_hint: the sources are hints, nothing is detected. out: a folder, or a .png where one
    image is made. weights: one per control, or none for those that the base or condition brings.
    image: what to start from in place of noise alone; controls read it where there is no other.
    mask: where it may change (white); the rest is returned untouched. strength: share of the noise
    schedule that runs, by default 0.8, and 1 with a mask.
    seed: of the first image, the next ones follow; None takes the first from 0 whose file is not
    there. settings: GenerateSettings by name, None for the default. on_step(done, total): image
    steps.
    """
    edited = read_edit(image, mask, strength)
    if edited and not images and not ready_hint:
        images = [edited.path]
    _check_inputs(controls, images)
    text = choose_prompt(prompt, prompt_mode)
    conditions = [get_condition(control.condition) for control in controls]
    parsed = parse_all_options(conditions, options)
    check_sources(controls, conditions, images, ready=ready_hint)
    sources: Sequence[Path | None] = images or [None]
    requests = [
        Request(
            image=source,
            stem=_stem(source, controls),
            prompt=text,
            negative_prompt=negative_prompt,
        )
        for source in sources
    ]
    shots = plan_shots(requests, out=out, count=count, seed=seed, overwrite=overwrite)
    on_base = open_base(base, device=device, dtype=dtype, note=note)
    _choose_threads(on_base)
    _note_long_prompt(on_base, text, note)
    chosen = _resolve(conditions[0], on_base, settings or {})
    branches = open_branches(controls, conditions, on_base, chosen, options=parsed, weights=weights)
    setup = _Setup(
        base=on_base,
        branches=branches,
        settings=chosen,
        edited=edited,
        ready=ready_hint,
        out=out,
        note=note,
    )
    yield from _run(setup, shots, batch_size=batch_size, on_step=on_step)


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """What all images of a run share."""

    base: Base
    branches: Sequence[Branch]
    settings: GenerateSettings
    edited: EditedImage | None
    ready: bool
    out: Path
    note: Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Posed:
    """An image to make, with its hints made: one per branch, uint8 (h, w, C), of one size."""

    shot: Shot
    hints: Sequence[np.ndarray]
    sources: Sequence[Path]
    hint_path: Path


def _check_inputs(controls: Sequence[ControlSpec], images: Sequence[Path]) -> None:
    if not controls:
        raise CnctlError("no condition", hint="name one: --cond canny; see cnctl conditions")
    if not images and any(control.source is None for control in controls):
        raise CnctlError("no image", hint="give one, or one per condition: --cond canny:x.png")


def _stem(image: Path | None, controls: Sequence[ControlSpec]) -> str:
    """What images are called: after the first control's source, and all conditions."""
    source = controls[0].source or image
    assert source is not None
    return f"{source.stem}-{'+'.join(control.condition for control in controls)}"


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


def _note_long_prompt(base: Base, prompt: str, note: Callable[[str], None]) -> None:
    room = base.tokenizer.model_max_length
    length = len(base.tokenizer(prompt).input_ids)
    if length > room:
        note(f"the prompt has {length} tokens; {base.name} reads the first {room}")


def _run(
    setup: _Setup, shots: Sequence[Shot], *, batch_size: int, on_step: Callable[[int, int], None]
) -> Iterator[GeneratedImage]:
    """Make and write the images, in batches."""
    steps = setup.settings.steps
    done = 0
    for batch in _batches(_pose(setup, shots), batch_size):
        count = partial(
            _count_steps, on_step, before=done, images=len(batch), total=len(shots) * steps
        )
        pictures = _sample(setup, batch, on_step=count)
        done += len(batch) * steps
        for one, picture in zip(batch, pictures, strict=True):
            pasted = setup.edited.paste(picture) if setup.edited else picture
            yield write_shot(one.shot, pasted, one.hint_path, _record(setup, one))


def _pose(setup: _Setup, shots: Sequence[Shot]) -> Iterator[_Posed]:
    """Make the hints of each request once, when its first image is due."""
    for request, group in itertools.groupby(shots, key=lambda shot: shot.request):
        hints, sources = make_hints(
            setup.branches,
            request.image,
            ready=setup.ready,
            resolution=setup.settings.resolution,
            edited=setup.edited,
        )
        note_dead_hints(hints, sources, setup.note)
        path = sources[0] if setup.ready else keep_hint(request, setup.out, hints[0])
        for shot in group:
            yield _Posed(shot=shot, hints=hints, sources=sources, hint_path=path)


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
    setup: _Setup, batch: Sequence[_Posed], *, on_step: Callable[[int], None]
) -> np.ndarray:
    """Images uint8 (B, H, W, 3), denoised at once."""
    height, width = batch[0].hints[0].shape[:2]
    requests = [one.shot.request for one in batch]
    settings = setup.settings
    return sample(
        setup.base,
        [b.control([one.hints[i] for one in batch]) for i, b in enumerate(setup.branches)],
        [request.prompt for request in requests],
        negative_prompts=[request.negative_prompt for request in requests],
        seeds=[one.shot.seed for one in batch],
        height=height,
        width=width,
        steps=settings.steps,
        guidance_scale=settings.guidance_scale,
        scheduler=settings.scheduler,
        edit=setup.edited.fitted((height, width)) if setup.edited else None,
        on_step=on_step,
    )


def _count_steps(
    on_step: Callable[[int, int], None], step: int, *, before: int, images: int, total: int
) -> None:
    """Turn the steps of one batch into image steps of the whole run."""
    on_step(before + step * images, total)


def _record(setup: _Setup, one: _Posed) -> dict[str, Any]:
    """All that made an image; no path of this machine, only file names."""
    controls = [
        {
            "condition": branch.condition.name,
            "options": dict(branch.options),
            "source": source.name,
            "hint_sha256": hashlib.sha256(hint.tobytes()).hexdigest(),
            **{name: value for name, value in branch.acts.items() if value != ()},
        }
        for branch, hint, source in zip(setup.branches, one.hints, one.sources, strict=True)
    ]
    settings = asdict(setup.settings)
    common = {name: value for name, value in settings.items() if name not in _PER_CONTROL}
    request = one.shot.request
    return {
        "version": cnctl.__version__,
        "base": setup.base.name,
        "family": setup.base.family.name,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "controls": controls,
        **common,
        **({"edit": setup.edited.record()} if setup.edited else {}),
    }
