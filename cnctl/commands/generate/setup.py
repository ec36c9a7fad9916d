"""Everything that a checked run of `cnctl generate` needs in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnctl.commands.generate.adapters import Adapters, check_fit
from cnctl.commands.generate.check import CheckedRun
from cnctl.commands.generate.chosen_settings import check_settings, choose_settings, settings_of
from cnctl.commands.generate.events import OnEvent
from cnctl.commands.generate.image_to_image import ImageToEdit
from cnctl.commands.generate.loaded_controls import (
    LoadedControl,
    check_acts,
    load_controls,
    name_weights,
    note_detected_masks,
    note_without_effect,
)
from cnctl.commands.generate.memory import out_of_memory_hint
from cnctl.commands.generate.memory_plan import move_layers_if_too_large, note_if_too_large
from cnctl.commands.generate.models import Models, load_models
from cnctl.commands.generate.outputs import OutputLayout, PlannedImage, Task
from cnctl.commands.generate.pictures import Pictures
from cnctl.commands.generate.prompt_reading import note_long_prompts, precompute
from cnctl.commands.generate.prompts import with_added
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.shared.bases import choose_base
from cnctl.commands.shared.captioner import Caption, open_captioner
from cnctl.commands.shared.events import Note, loadings
from cnctl.commands.shared.failures import Failures
from cnctl.commands.shared.weights import NamedControl, check_controls, locate_control, open_base
from cnctl.models.base import Base, check_size
from cnctl.models.families import read_denoiser, weight_files
from cnctl.models.short_prompts import is_short
from cnctl.settings import GenerateSettings

LARGE = 1 << 30
"""Bytes of weights that take seconds to read."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All that a run needs, in memory."""

    request: GenerateRequest
    layout: OutputLayout
    images: Sequence[PlannedImage]
    base: Base
    controls: Sequence[LoadedControl]
    settings: GenerateSettings
    """Those of the run; `settings_of` has those of a task."""
    recaption: Caption | None
    """Makes the second image's prompt of the first image, in the automatic mode."""
    pictures: Pictures
    to_edit: ImageToEdit | None
    adapters: Adapters
    on_event: OnEvent
    failures: Failures
    paths: set[Path]
    """Paths of the images."""
    written: set[Path] = field(default_factory=set)
    """The hints that this run has written."""

    def settings_of(self, task: Task) -> GenerateSettings:
        """The settings of one task, which a sweep may change."""
        return settings_of(self.settings, task)

    def note(self, text: str) -> None:
        """Report a line that a person should read."""
        self.on_event(Note(text))


def set_up(checked: CheckedRun, on_event: OnEvent, *, models: Models | None = None) -> Setup:
    """Check against the base all that needs no weights, then load.

    models: those of an earlier job with the same base and adapters; None to load them.
    """
    request = checked.plan.request
    check_controls(request.base, _named(checked), note=lambda text: on_event(Note(text)))
    known = models.base if models else _open_outline(checked)
    if known:
        _check_size_and_prompts(checked, known, on_event)
    if models is None:
        note_if_too_large(request, _named(checked), note=lambda text: on_event(Note(text)))
    with out_of_memory_hint(request, "the networks"), loadings(on_event):
        if models is not None:
            return _load(checked, models, on_event)
        own = load_models(request, on_event, denoiser=not _loads_in_turn(request))
        return _load(checked, own, on_event, own=True)


def _loads_in_turn(request: GenerateRequest) -> bool:
    """Whether the denoiser is read when the text encoders have been released."""
    changed = request.loras or request.embeddings or request.quantize or request.compile
    return request.low_memory and request.prompt_mode != "automatic" and not changed


def _open_outline(checked: CheckedRun) -> Base | None:
    """The base without its weights, with its embeddings, where something is to be held to it.

    Raises CnctlError for an adapter that does not fit.
    """
    plan, request = checked.plan, checked.plan.request
    prompts = (prompt for task in plan.tasks for prompt in (task.prompt, task.negative_prompt))
    fitted = request.size or request.loras or request.embeddings
    if not fitted and all(map(is_short, prompts)) and not _is_large(request):
        return None
    outline = open_base(request.base, device="cpu", dtype=None, weights=False)
    check_fit(outline, request.loras, request.embeddings)
    return outline


def _is_large(request: GenerateRequest) -> bool:
    """Whether reading the base takes much longer than opening its outline."""
    files = weight_files(choose_base(request.base))
    return sum(file.stat().st_size for file in files) > LARGE


def _check_size_and_prompts(checked: CheckedRun, base: Base, on_event: OnEvent) -> None:
    """Report prompts that are too long for the base; CnctlError for what does not fit it."""
    if size := checked.plan.request.size:
        check_size(base, height=size[1], width=size[0])
    by_task = _settings_by_task(checked, base)
    _check_acts(checked, base, by_task)
    note_long_prompts(base, by_task, note=lambda text: on_event(Note(text)))


def _settings_by_task(checked: CheckedRun, base: Base) -> list[tuple[Task, GenerateSettings]]:
    """Each task with its settings; CnctlError for what the base does not support."""
    plan = checked.plan
    settings = choose_settings(plan.conditions[0], base, plan.request.settings)
    by_task = [(task, settings_of(settings, task)) for task in plan.tasks]
    for chosen in dict.fromkeys(chosen for _, chosen in by_task):
        check_settings(chosen, base)
    return by_task


def _check_acts(
    checked: CheckedRun, base: Base, by_task: Sequence[tuple[Task, GenerateSettings]]
) -> None:
    plan, named = checked.plan, _named(checked)
    places = [locate_control(one.condition, base, weights=one.weights) for one in named]
    for chosen in dict.fromkeys(chosen for _, chosen in by_task):
        check_acts(plan.controls, places, chosen, base.family, adapted=bool(plan.request.loras))


def _load(checked: CheckedRun, models: Models, on_event: OnEvent, *, own: bool = False) -> Setup:
    """own: the models are for this run alone."""
    plan, request, base = checked.plan, checked.plan.request, models.base
    settings = choose_settings(plan.conditions[0], base, request.settings)
    by_task = _settings_by_task(checked, base)
    every = [*dict.fromkeys(chosen for _, chosen in by_task)]
    _check_acts(checked, base, by_task)
    if request.low_memory and request.prompt_mode != "automatic":
        base = precompute(base, by_task)
        if own:
            models.base = base  # so that nothing holds the text encoders
    if own and _loads_in_turn(request):
        base = models.base = read_denoiser(base)
    controls = _load_controls(checked, models, settings)
    if request.low_memory:
        move_layers_if_too_large(
            base, [one.network for one in controls], note=lambda text: on_event(Note(text))
        )
    if checked.to_edit is None:
        note_detected_masks(controls, note=lambda text: on_event(Note(text)))
    for chosen in every:
        note_without_effect(controls, chosen, note=lambda text: on_event(Note(text)))
    return Setup(
        request=request,
        layout=checked.layout,
        images=checked.images,
        paths={image.path for image in checked.images},
        base=base,
        controls=controls,
        settings=settings,
        recaption=_open_captioner(request, base) if request.prompt_mode == "automatic" else None,
        pictures=checked.pictures,
        to_edit=checked.to_edit,
        adapters=models.adapters,
        on_event=on_event,
        failures=checked.failures,
    )


def _load_controls(
    checked: CheckedRun, models: Models, settings: GenerateSettings
) -> list[LoadedControl]:
    plan, request = checked.plan, checked.plan.request
    return load_controls(
        plan.controls,
        models,
        settings,
        options=plan.options,
        regions=checked.regions,
        named=_named(checked),
        ready=request.ready_hint,
    )


def _named(checked: CheckedRun) -> list[NamedControl]:
    request = checked.plan.request
    return name_weights(checked.plan.conditions, request.weights, request.configs)


def _open_captioner(request: GenerateRequest, base: Base) -> Caption:
    caption = open_captioner(request.captioner, base)
    return lambda image: with_added(caption(image), request.added_prompt)
