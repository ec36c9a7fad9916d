"""`cnctl annotate`: images to hints, one or a tree of them, or to a data set for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cnctl.commands.annotate.detect import HintSource, at_working_size, read_picture, title
from cnctl.commands.annotate.plan import Plan, Run, Target, plan_images, plan_runs
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.result import AnnotatedHint, AnnotateResult, Sheet
from cnctl.commands.annotate.stores import SheetStore, Store, open_store
from cnctl.commands.shared.events import FailedImage, Stage, ignore
from cnctl.commands.shared.failures import Failures
from cnctl.commands.shared.report.sheets import compare
from cnctl.errors import CnctlError
from cnctl.hints.detector import Detector
from cnctl.images import fit_hint, read_hint

BATCH = 4

Event = AnnotatedHint | Sheet | Stage | FailedImage
"""A hint or sheet that is on disk, how many images are done, or one that failed."""


def annotate(
    request: AnnotateRequest, *, on_event: Callable[[Event], None] = ignore
) -> AnnotateResult:
    """Write the hints of images; each image is decoded once for all conditions.

    Hints of an earlier run with the same options are kept, so a run that was stopped can be
    repeated. An image that fails is recorded in the result and reported to `on_event`, and the
    others continue; a single one raises its CnctlError. OutputError ends the run.
    """
    runs = plan_runs(request)
    plans = plan_images(request, runs)
    result = AnnotateResult(images=len(plans))
    failures = Failures(on_event, alone=len(plans) == 1)
    with open_store(request) as store:
        source, batch = _open_detectors(request, runs)
        for done, plan in enumerate(plans):
            if batch > 1 and done % batch == 0:
                source.look_ahead(_missing(plans[done : done + batch], store))
            with failures.of(plan.image.path, title=title(plan.image)):
                for written in _write_all(plan, store, source, request.overwrite, failures):
                    result.add(written)
                    on_event(written)
            on_event(Stage("annotating", done + 1, len(plans)))
    return replace(result, failed=failures.failed)


def _open_detectors(request: AnnotateRequest, runs: Sequence[Run]) -> tuple[HintSource, int]:
    """The detectors in memory, and how many images they see at once."""
    if request.ground_truth is not None:
        return HintSource([]), 1
    device = _device(request, runs)
    detectors = [
        Detector(run.condition, device=device, commercial=request.commercial or None)
        for run in runs
    ]
    return HintSource(detectors), request.batch or (1 if device == "cpu" else BATCH)


def _device(request: AnnotateRequest, runs: Sequence[Run]) -> str:
    """The device that is asked for, or the fastest; the CPU where no condition has weights."""
    if request.device in (None, "cpu") and not any(run.condition.files for run in runs):
        return "cpu"
    from cnctl.models.device import pick_device  # imports torch, which takes seconds

    return str(pick_device(request.device))


def _missing(plans: Sequence[Plan], store: Store) -> list[Target]:
    """The hints that are not written yet; what cannot be written raises later, in its turn."""
    missing = []
    for target in (target for plan in plans for target in plan.targets):
        with suppress(CnctlError):
            missing += [] if store.holds(target) else [target]
    return missing


# --- one image ----------------------------------------------------------------------------------


def _write_all(
    plan: Plan, store: Store, source: HintSource, overwrite: bool, failures: Failures
) -> Iterator[AnnotatedHint | Sheet]:
    """Write all that is planned of one image; no sheet where one of its hints has failed."""
    count = 0
    for hint in _write_hints(plan.targets, store, source, failures):
        count += 1
        yield hint
    if plan.sheet and count == len(plan.targets):
        yield _write_sheet(plan, plan.sheet, overwrite=overwrite)


def _write_hints(
    targets: Sequence[Target],
    store: Store,
    source: HintSource,
    failures: Failures,
) -> Iterator[AnnotatedHint]:
    """The hints of one image, which is decoded once, and only if one is missing."""
    missing = [target for target in targets if not store.holds(target)]
    yield from (replace(_hint(t), skipped=True) for t in targets if t not in missing)
    picture = source.read(targets[0].image) if missing else np.empty(0)
    for target in missing:
        with failures.of(target.image.path, title=title(target.image)):
            image, found = source(target, picture)
            store.write(target, image, found.hint)
            yield replace(_hint(target), data=found.data)


def _hint(target: Target) -> AnnotatedHint:
    return AnnotatedHint(path=target.path, image=target.image.path, record=target.record)


def _write_sheet(plan: Plan, path: Path, *, overwrite: bool) -> Sheet:
    """The image beside its hints as they lie on disk, at the size of the first."""
    store = SheetStore(path, [target.record for target in plan.targets], overwrite=overwrite)
    sheet = Sheet(path=path, image=plan.image.path)
    if store.is_done():
        return replace(sheet, skipped=True)
    source = at_working_size(read_picture(plan.image), plan.targets[0].run)
    hints = {}
    for target in plan.targets:
        condition = target.run.condition
        hint = read_hint(target.path, channels=condition.stored_channels)
        palette = bool(condition.palette)
        hints[condition.name] = fit_hint(hint, size=source.shape[:2], palette=palette)
    store.write(compare(source, hints))
    return sheet
