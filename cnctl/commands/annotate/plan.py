"""The plan of `cnctl annotate`: which hint of which image goes where, checked before any work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnctl.commands.annotate.found import StandardInput, find_inputs, measure
from cnctl.commands.annotate.request import OF_DATASETS, AnnotateRequest
from cnctl.commands.annotate.runs import Run, check_ground_truth, named_conditions
from cnctl.data.subset import choose
from cnctl.errors import CnctlError, OutputError
from cnctl.hints.ground_truth import map_of
from cnctl.hints.options import check_options
from cnctl.images import ImageFile, hint_suffix, shown

STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One hint to write."""

    image: ImageFile
    run: Run
    path: Path
    record: Mapping[str, Any]
    """condition, options, resolution; and, when it is written, source_sha256: what the hint is a
    function of."""
    truth: Path | None = None
    """The map that states this hint; None where it is detected."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is written of one image."""

    image: ImageFile
    targets: Sequence[Target]
    sheet: Path | None = None
    """The file that shows the image and its hints side by side, if one is wanted."""

    def only(self, conditions: Container[str]) -> Plan:
        """What is left with these conditions alone: no sheet where others belong to it."""
        targets = [each for each in self.targets if each.run.condition.name in conditions]
        whole = len(targets) == len(self.targets)
        return replace(self, targets=targets, sheet=self.sheet if whole else None)

    @property
    def outputs(self) -> list[Path]:
        return [*(target.path for target in self.targets), *filter(None, [self.sheet])]


def plan_images(
    request: AnnotateRequest,
    runs: Sequence[Run],
    *,
    note: Callable[[str], None] = lambda text: None,
) -> list[Plan]:
    """All that is written, by image; CnctlError for what cannot work. No image is read."""
    images = _choose(_find(request, note), request)
    stdin = any(isinstance(image, StandardInput) for image in images)
    _check_request(len(images), runs, request, stdin=stdin)
    plans = [_plan(image, runs, request) for image in images]
    if not request.is_one_file:
        plans = _without_own_files(plans)
    _check_paths(plans)
    return plans


# --- images -------------------------------------------------------------------------------------


def _find(request: AnnotateRequest, note: Callable[[str], None]) -> list[ImageFile]:
    images = find_inputs(request, note)
    out = Path(os.path.abspath(request.out))
    images = _without_output_folder(images, request.inputs, out)
    if not images:
        text = "no image is left to annotate" if request.inputs else "no image is named"
        raise CnctlError(text, hint="give files, folders or - for stdin")
    return images


def _without_output_folder(
    images: list[ImageFile], inputs: Sequence[str | Path], out: Path
) -> list[ImageFile]:
    """Leave out what an earlier run wrote where -o lies inside an input folder."""
    folders = [Path(os.path.abspath(item)) for item in inputs if os.path.isdir(item)]
    if not any(folder in out.parents for folder in folders):
        return images
    return [image for image in images if out not in Path(os.path.abspath(image.path)).parents]


def _choose(images: list[ImageFile], request: AnnotateRequest) -> list[ImageFile]:
    """The part of the images that --largest and --sample choose."""
    names = [image.relative.as_posix() for image in images]
    chosen = choose(
        names,
        lambda index: measure(images[index]),
        largest=request.largest,
        sample=request.sample,
        seed=request.seed,
    )
    return [images[index] for index in chosen]


# --- what is written of each --------------------------------------------------------------------


def _plan(image: ImageFile, runs: Sequence[Run], request: AnnotateRequest) -> Plan:
    out = Path(request.out)
    targets = [
        Target(
            image=image,
            run=run,
            path=out if request.is_one_file else out / _hint_name(image, run),
            record=_record(image, run, request),
            truth=_truth(image, run, request),
        )
        for run in runs
    ]
    sheet = out / image.relative.with_name(f"{image.relative.stem}-compare.png")
    has_sheet = request.compared and len(runs) == len(named_conditions(request))
    return Plan(image=image, targets=targets, sheet=sheet if has_sheet else None)


def _hint_name(image: ImageFile, run: Run) -> Path:
    """Where the hint lies below -o; the tree of an input folder is kept."""
    suffix = hint_suffix(run.condition.stored_channels)
    return image.relative.with_name(f"{image.relative.stem}-{run.condition.name}{suffix}")


def _truth(image: ImageFile, run: Run, request: AnnotateRequest) -> Path | None:
    """The file that states this image's hint, in the tree that --ground-truth names."""
    if request.ground_truth is None or run.condition.ground_truth is None:
        return None
    return map_of(run.condition, Path(request.ground_truth), image.relative)


def _record(image: ImageFile, run: Run, request: AnnotateRequest) -> dict[str, Any]:
    record: dict[str, Any] = {
        "condition": run.condition.name,
        "options": check_options(run.condition, run.options),
        "resolution": run.resolution,
    }
    truth = _truth(image, run, request)
    return record if truth is None else record | {"ground_truth": truth.name}


def _without_own_files(plans: list[Plan]) -> list[Plan]:
    """Leave out images that are outputs or maps of this very plan, where folders coincide."""
    own = {os.path.abspath(path) for plan in plans for path in plan.outputs}
    own |= {os.path.abspath(t.truth) for plan in plans for t in plan.targets if t.truth}
    return [plan for plan in plans if os.path.abspath(plan.image.path) not in own]


# --- what cannot work ---------------------------------------------------------------------------


def _check_request(
    count: int, runs: Sequence[Run], request: AnnotateRequest, *, stdin: bool
) -> None:
    """Refuse flags that contradict each other, before anything is loaded or written."""
    if request.dataset:
        raise CnctlError("a data set is made by cnctl.commands.annotate.curate.curate")
    if flags := request.given(OF_DATASETS):
        raise CnctlError(f"{flags[0]} belongs to --dataset", hint="add --dataset")
    conditions = len(named_conditions(request))
    if max(count, conditions) > 1 and request.is_one_file:
        raise CnctlError(
            f"-o {shown(request.out)} is one file for {count * conditions} hints",
            hint="name a folder",
        )
    if request.compared and (request.is_one_file or stdin):
        raise CnctlError(
            "--compare works with image files and a folder as -o", hint="name files and a folder"
        )
    if stdin and request.ground_truth is not None:
        raise CnctlError("an image on standard input has no map", hint="name its file")
    check_ground_truth(request, runs)


def _check_paths(plans: Sequence[Plan]) -> None:
    """Refuse outputs that would collide, or have the suffix of another form."""
    sources: dict[Path, Path] = {}
    for plan in plans:
        source = plan.image.path
        for path in plan.outputs:
            if path in sources:
                raise OutputError(
                    f"{shown(sources[path])} and {shown(source)} would both become {shown(path)}",
                    hint="rename one, or annotate them into two folders",
                )
            sources[path] = source
            if path != STDOUT and _same_file(path, source):
                raise OutputError(
                    f"the hint would replace its own image {shown(path)}", hint="choose another -o"
                )
        for target in plan.targets:
            _check_suffix(target)


def _check_suffix(target: Target) -> None:
    suffix = hint_suffix(target.run.condition.stored_channels)
    if target.path != STDOUT and target.path.suffix.lower() != suffix:
        raise CnctlError(
            f"-o {shown(target.path)}: hints of {target.run.condition.name} are stored as {suffix}",
            hint=f"-o {shown(target.path.with_suffix(suffix))}",
        )


def _same_file(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):  # one of them is not there
        return one.samefile(other)
    return False
