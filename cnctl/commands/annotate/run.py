"""`cnctl annotate`: images to hints, one or a tree of them, or to a data set for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.commands.annotate.detect import HintSource, at_working_size, read_picture, title
from cnctl.commands.annotate.plan import Layout, Plan, Target, plan_images, plan_runs
from cnctl.commands.annotate.stores import SheetStore, Store, open_store
from cnctl.commands.shared.events import FailedImage
from cnctl.commands.shared.failures import Failures
from cnctl.commands.shared.report.sheets import compare
from cnctl.errors import CnctlError
from cnctl.hints.detector import Detector
from cnctl.images import fit_hint, read_hint

BATCH = 4


@dataclass(frozen=True, kw_only=True)
class AnnotatedHint:
    """One hint on disk. skipped: an earlier run had made it."""

    path: Path
    image: Path
    record: Mapping[str, Any]
    """condition, options, resolution: what the hint is a function of, with its image."""
    skipped: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the hint was drawn from (lines, key points), where the detector says; not if skipped."""

    def as_dict(self) -> dict[str, Any]:
        data = {"data": self.data} if self.data else {}
        return data | {
            "path": self.path,
            "image": self.image,
            **self.record,
            "skipped": self.skipped,
        }


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """An image and all its hints side by side, on disk."""

    path: Path
    image: Path
    skipped: bool = False


@dataclass(frozen=True, kw_only=True)
class AnnotateResult:
    """Each image gave a hint per condition, or is among the failed."""

    images: int
    hints: list[AnnotatedHint] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    failed: list[FailedImage] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        return sum(hint.skipped for hint in self.hints)

    def add(self, made: AnnotatedHint | Sheet) -> None:
        if isinstance(made, Sheet):
            self.sheets.append(made)
        else:
            self.hints.append(made)

    def as_dict(self) -> dict[str, Any]:
        return {
            "hints": [hint.as_dict() for hint in self.hints],
            "sheets": [asdict(sheet) for sheet in self.sheets],
            "failed": [asdict(failure) for failure in self.failed],
        }


def annotate(
    conditions: str | Sequence[str],
    inputs: Sequence[str | Path],
    *,
    out: str | Path = "out",
    options: Sequence[str] = (),
    resolution: int | None = None,
    ground_truth: str | Path | None = None,
    compared: bool = False,
    dataset: bool = False,
    largest: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    prompt: str | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    batch: int | None = None,
    commercial: bool = False,
    on_made: Callable[[Path], None] = lambda path: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_failure: Callable[[FailedImage], None] = lambda failure: None,
) -> AnnotateResult:
    """Detect the hints of images; each image is decoded once for all conditions.

    inputs: files, folders, quoted globs; "-" is an image on stdin. What `out`, `dataset` and the
    like choose is told by `Layout`. options: "name=value", or "condition.name=value" where there
    are several. resolution: short side in pixels; None means the settings', or what the condition
    trains at. prompt: for a data set, where a.jpg has no text in a.txt beside it.

    batch: so many images of one size are looked at together, by detectors that can; None means one
    by one on the CPU, where that is no slower, and BATCH elsewhere.

    commercial: refuse detectors whose weights are not licensed for commercial use; CNCTL_COMMERCIAL
    asks for the same. on_made hears of each file when it is there.

    Hints of an earlier run with the same options are kept, so a run that was stopped can be
    repeated. An image that fails is put down in the result (and told to `on_failure`) and the
    rest goes on; a single one raises its CnctlError. OutputError ends the run.
    """
    runs = plan_runs(
        [conditions] if isinstance(conditions, str) else conditions, options, resolution
    )
    layout = Layout(
        out=out,
        dataset=dataset,
        compared=compared,
        ground_truth=Path(ground_truth) if ground_truth else None,
        largest=largest,
        sample=sample,
        seed=seed,
    )
    plans = plan_images(inputs, runs, layout)
    result = AnnotateResult(images=len(plans))
    failures = Failures(on_failure, alone=len(plans) == 1)
    with open_store(layout, prompt=prompt, overwrite=overwrite) as store:
        detectors = [
            Detector(run.condition, device=device, commercial=commercial or None)
            for run in runs
            if ground_truth is None
        ]
        source = HintSource(detectors)
        at_once = batch or (1 if device == "cpu" else BATCH)
        for done, plan in enumerate(plans):
            if at_once > 1 and done % at_once == 0:
                source.look_ahead(_missing(plans[done : done + at_once], store))
            with failures.of(plan.image.path, title=title(plan.image)):
                for made in _make(plan, store, source, overwrite=overwrite, failures=failures):
                    result.add(made)
                    on_made(made.path)
            on_progress(done + 1, len(plans))
    return replace(result, failed=failures.failed)


def _missing(plans: Sequence[Plan], store: Store) -> list[Target]:
    """What is not made yet; what cannot be is told of in its turn."""
    missing = []
    for target in (target for plan in plans for target in plan.targets):
        with suppress(CnctlError):
            missing += [] if store.holds(target) else [target]
    return missing


# --- one image ----------------------------------------------------------------------------------


def _make(
    plan: Plan,
    store: Store,
    source: HintSource,
    *,
    overwrite: bool,
    failures: Failures,
) -> Iterator[AnnotatedHint | Sheet]:
    """All that is planned of one image; no sheet where one of its hints has failed."""
    count = 0
    for hint in _annotate_image(plan.targets, store, source, failures):
        count += 1
        yield hint
    if plan.sheet and count == len(plan.targets):
        yield _make_sheet(plan, plan.sheet, overwrite=overwrite)


def _annotate_image(
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


def _make_sheet(plan: Plan, path: Path, *, overwrite: bool) -> Sheet:
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
