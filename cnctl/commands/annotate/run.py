"""`cnctl annotate`: images to hints, one or a tree of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from cnctl.commands.annotate.detect import HintSource, at_working_size
from cnctl.commands.annotate.inputs import InputImages, title
from cnctl.commands.annotate.plan import Plan, Target, plan_images
from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.commands.annotate.result import AnnotatedHint, AnnotateResult, Sheet
from cnctl.commands.annotate.runs import Run, named_conditions, plan_runs
from cnctl.commands.annotate.stores import SheetStore, Store, open_store
from cnctl.commands.shared.events import FailedCondition, FailedImage, Note, Stage, ignore, notes
from cnctl.commands.shared.failures import FailedConditions, Failures
from cnctl.commands.shared.report.sheets import compare
from cnctl.errors import CnctlError
from cnctl.hints.detector import Detector
from cnctl.hints.run import LoadedDetector
from cnctl.images import fit_hint, read_hint

BATCH = 4

Event = AnnotatedHint | Sheet | Stage | Note | FailedImage | FailedCondition
"""A hint or sheet that is on disk, how many images are done, or what failed."""


def annotate(
    request: AnnotateRequest, *, on_event: Callable[[Event], None] = ignore
) -> AnnotateResult:
    """Write the hints of images; each image is decoded once for all conditions.

    Hints that an earlier run made of the same images with the same options are kept, so a run that
    was stopped can be repeated; OutputError where a file is another hint. An image that fails is
    recorded in the result and reported to `on_event`, and the others continue; a single one raises
    its CnctlError. The same holds for a condition that cannot be used.
    """
    broken = FailedConditions(on_event, count=len(named_conditions(request)))
    runs = plan_runs(request, broken)
    plans = plan_images(request, runs, note=notes(on_event))
    result = AnnotateResult(images=len(plans), failed_conditions=broken.failed)
    failures = Failures(on_event, alone=len(plans) == 1)
    with open_store(request) as store:
        detectors, batch = _open_detectors(request, runs, broken)
        source = HintSource(detectors, note=notes(on_event))
        if broken.failed:
            usable = {run.condition.name for run in runs} - {f.condition for f in broken.failed}
            plans = [plan.only(usable) for plan in plans]
        for done, plan in enumerate(plans):
            # A detector that ends the process leaves this on the terminal.
            on_event(Stage("annotating", done, len(plans), "images", title(plan.image)))
            if batch > 1 and done % batch == 0:
                source.look_ahead(_missing(plans[done : done + batch], store, source.images))
            with failures.of(plan.image.path, title=title(plan.image)):
                for written in _write_all(plan, store, source, request, failures):
                    result.add(written)
                    on_event(written)
            source.images.forget(plan.image)
        on_event(Stage("annotating", len(plans), len(plans), "images"))
    return replace(result, failed=failures.failed)


def _open_detectors(
    request: AnnotateRequest, runs: Sequence[Run], broken: FailedConditions
) -> tuple[dict[str, LoadedDetector], int]:
    """The detectors in memory by condition, and how many images they see at once."""
    if request.ground_truth is not None:
        return {}, 1
    device, loaded = _device(request, runs), {}
    for condition in (run.condition for run in runs):
        with broken.of(condition.name):
            detector = Detector(condition, device=device, commercial=request.commercial or None)
            loaded[condition.name] = detector.load()
    return loaded, request.batch_size or (1 if device == "cpu" else BATCH)


def _device(request: AnnotateRequest, runs: Sequence[Run]) -> str:
    """The device that is asked for, or the fastest; the CPU where no condition has weights."""
    if request.device in (None, "cpu") and not any(run.condition.files for run in runs):
        return "cpu"
    from cnctl.models.device import pick_device  # imports torch, which takes seconds

    return str(pick_device(request.device))


def _missing(plans: Sequence[Plan], store: Store, images: InputImages) -> list[Target]:
    """The hints that are not written yet; what cannot be written raises later, in its turn."""
    missing = []
    for target in (target for plan in plans for target in plan.targets):
        with suppress(CnctlError):
            known = images.identify(target)
            missing += [] if store.holds(known) else [known]
    return missing


# --- one image ----------------------------------------------------------------------------------


def _write_all(
    plan: Plan,
    store: Store,
    source: HintSource,
    request: AnnotateRequest,
    failures: Failures,
) -> Iterator[AnnotatedHint | Sheet]:
    """Write all that is planned of one image; no sheet where one of its hints has failed."""
    records = {}
    for hint in _write_hints(plan, store, source, failures):
        records[hint.path] = hint.record
        yield hint
    if plan.sheet and len(records) == len(plan.targets):
        made_of = [records[target.path] for target in plan.targets]
        store_of_sheet = SheetStore(plan.sheet, made_of, overwrite=request.overwrite)
        yield _write_sheet(plan, store_of_sheet, source.images)


def _write_hints(
    plan: Plan, store: Store, source: HintSource, failures: Failures
) -> Iterator[AnnotatedHint]:
    """The hints of one image, which is read once, and decoded only if one is missing."""
    images, missing = source.images, []
    images.sha256(plan.image)  # an image that cannot be read fails once
    for target in plan.targets:
        with failures.of(plan.image.path, title=title(plan.image)):
            known = images.identify(target)
            if store.holds(known):
                yield replace(_hint(known), skipped=True)
            else:
                missing.append(known)
    if missing:
        images.picture(plan.image)
    for target in missing:
        with failures.of(plan.image.path, title=title(plan.image)):
            image, found = source(target)
            store.write(target, image, found.hint)
            yield replace(_hint(target), data=found.data)


def _hint(target: Target) -> AnnotatedHint:
    return AnnotatedHint(path=target.path, image=target.image.path, record=target.record)


def _write_sheet(plan: Plan, store: SheetStore, images: InputImages) -> Sheet:
    """The image beside its hints as they lie on disk, at the size of the first."""
    sheet = Sheet(path=store.path, image=plan.image.path)
    if store.is_done():
        return replace(sheet, skipped=True)
    source = at_working_size(images.picture(plan.image), plan.targets[0].run)
    hints = {}
    for target in plan.targets:
        condition = target.run.condition
        hint = read_hint(target.path, channels=condition.stored_channels)
        palette = bool(condition.palette)
        hints[condition.name] = fit_hint(hint, size=source.shape[:2], palette=palette)
    store.write(compare(source, hints))
    return sheet
