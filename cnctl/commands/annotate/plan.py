"""What `cnctl annotate` is to do: which hint of which image goes where, checked before any work."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.data.subset import choose
from cnctl.errors import CnctlError
from cnctl.hints.run import check_options, draw_options, parse_options
from cnctl.images import SUFFIXES, ImageFile, find_images, hint_suffix, read_size, shown
from cnctl.plugin import Condition, OptionValue
from cnctl.registry import get_condition
from cnctl.settings import AnnotateSettings, resolve

STDIN = ImageFile(Path("-"), Path("stdin.png"))
STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which images are meant, where their hints go, and where hints are read that are known."""

    out: str | Path
    """A folder that takes `<stem>-<condition>.png` and keeps the tree of the images; a file, or "-"
    for stdout, where one image meets one condition."""
    dataset: bool = False
    """Write images/, hints/ and metadata.jsonl for `cnctl train`. Options that the condition draws
    at random are a function of (seed, relative path); options that are given stay as given."""
    compared: bool = False
    """Write `<stem>-compare.png` too: an image beside its hints, if it has them all."""
    ground_truth: Path | None = None
    """A folder of a data set's own maps, in the tree of the images: nothing is detected."""
    largest: int | None = None
    """Take only so many images, those with the most pixels."""
    sample: int | None = None
    """Take only so many of them, at random by `seed`."""
    seed: int = 0

    @property
    def is_one_file(self) -> bool:
        """Whether -o names a file, or standard output, and no folder."""
        if self.dataset:
            return False
        suffixes = SUFFIXES | {".npz"}
        is_named_so = Path(self.out).suffix.lower() in suffixes
        return self.out == "-" or (is_named_so and not os.path.isdir(self.out))


@dataclass(frozen=True, kw_only=True)
class Run:
    """One condition of this call, with what was chosen for it."""

    condition: Condition
    options: Mapping[str, OptionValue]
    resolution: int


@dataclass(frozen=True, kw_only=True)
class Target:
    """One hint to make."""

    image: ImageFile
    run: Run
    path: Path
    record: Mapping[str, Any]
    """condition, options, resolution: what the hint is a function of, with its image."""
    truth: Path | None = None
    """The map that states this hint; None where it is to be detected."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is to be made of one image."""

    image: ImageFile
    targets: Sequence[Target]
    sheet: Path | None = None
    """Where the image and its hints are shown side by side."""

    @property
    def outputs(self) -> list[Path]:
        return [*(target.path for target in self.targets), *filter(None, [self.sheet])]


def plan_runs(
    names: Sequence[str], assignments: Sequence[str], resolution: int | None
) -> list[Run]:
    """The conditions of these names, each once, with their options checked."""
    names = list(dict.fromkeys(names))
    if not names:
        raise CnctlError("no condition", hint="name one: --cond canny; see cnctl conditions")
    conditions = [get_condition(name) for name in names]
    return [
        Run(
            condition=condition,
            options=parse_options(condition, _assignments_for(condition, names, assignments)),
            resolution=_resolution(condition, resolution),
        )
        for condition in conditions
    ]


def plan_images(inputs: Sequence[str | Path], runs: Sequence[Run], layout: Layout) -> list[Plan]:
    """All that is to be made, by image; CnctlError for what cannot work. No image is read."""
    images = _choose(_find(inputs, layout.out), layout)
    _check_layout(len(images), runs, layout, stdin=STDIN in images)
    plans = [_plan(image, runs, layout) for image in images]
    if not layout.is_one_file:
        plans = _without_own_files(plans)
    _check_paths(plans)
    return plans


def pair_name(image: ImageFile) -> str:
    """What a data set calls this image: its path without suffix."""
    return image.relative.with_suffix("").as_posix()


# --- conditions and options ---------------------------------------------------------------------


def _assignments_for(
    condition: Condition, names: Sequence[str], assignments: Sequence[str]
) -> list[str]:
    """The part of "--option" meant for this condition: "blur.radius=4" where there are several."""
    if len(names) == 1:
        return [text.removeprefix(f"{condition.name}.") for text in assignments]
    owners = [text.partition("=")[0].partition(".")[0] for text in assignments]
    for text, owner in zip(assignments, owners, strict=True):
        if owner not in names:
            raise CnctlError(
                f"--option {text} does not say which condition it is for",
                hint=f"write {names[0]}.{text}",
            )
    prefix = f"{condition.name}."
    return [text.removeprefix(prefix) for text in assignments if text.startswith(prefix)]


def _resolution(condition: Condition, given: int | None) -> int:
    of_condition = {"resolution": condition.train.resolution}
    chosen = resolve(AnnotateSettings, of_condition, flags={"resolution": given}).resolution
    if chosen < 8:
        raise CnctlError(f"--resolution {chosen} is too small", hint="try 512")
    return chosen


# --- images -------------------------------------------------------------------------------------


def _find(inputs: Sequence[str | Path], out: str | Path) -> list[ImageFile]:
    paths = [item for item in inputs if item != "-"]
    images = [STDIN] * (len(paths) < len(inputs)) + find_images(paths)
    images = _without_output_folder(images, paths, Path(os.path.abspath(out)))
    if not images:
        raise CnctlError("no image", hint="give files, folders or - for stdin")
    return images


def _without_output_folder(
    images: list[ImageFile], inputs: Sequence[str | Path], out: Path
) -> list[ImageFile]:
    """Leave out what an earlier run wrote where -o lies inside an input folder."""
    folders = [Path(os.path.abspath(item)) for item in inputs if os.path.isdir(item)]
    if not any(folder in out.parents for folder in folders):
        return images
    return [image for image in images if out not in Path(os.path.abspath(image.path)).parents]


def _choose(images: list[ImageFile], layout: Layout) -> list[ImageFile]:
    """The part of the images that --largest and --sample ask for."""
    names = [image.relative.as_posix() for image in images]
    chosen = choose(
        names,
        lambda index: read_size(images[index].path),
        largest=layout.largest,
        sample=layout.sample,
        seed=layout.seed,
    )
    return [images[index] for index in chosen]


# --- what is made of each -----------------------------------------------------------------------


def _plan(image: ImageFile, runs: Sequence[Run], layout: Layout) -> Plan:
    out = Path(layout.out)
    targets = [
        Target(
            image=image,
            run=run,
            path=out if layout.is_one_file else out / _hint_name(image, run, layout),
            record=_record(image, run, layout),
            truth=_truth(image, run, layout),
        )
        for run in runs
    ]
    sheet = out / image.relative.with_name(f"{image.relative.stem}-compare.png")
    return Plan(image=image, targets=targets, sheet=sheet if layout.compared else None)


def _hint_name(image: ImageFile, run: Run, layout: Layout) -> Path:
    """Where the hint lies below -o; the tree of an input folder is kept."""
    suffix = hint_suffix(run.condition.stored_channels)
    if layout.dataset:
        return Path("hints", pair_name(image) + suffix)
    return image.relative.with_name(f"{image.relative.stem}-{run.condition.name}{suffix}")


def _truth(image: ImageFile, run: Run, layout: Layout) -> Path | None:
    """The file that states this image's hint, in the tree that --ground-truth names."""
    known = run.condition.ground_truth
    if layout.ground_truth is None or known is None:
        return None
    own = image.relative
    return layout.ground_truth / own.with_name(known.name.format(stem=own.stem, name=own.name))


def _record(image: ImageFile, run: Run, layout: Layout) -> dict[str, Any]:
    drawn: Mapping[str, OptionValue] = {}
    if layout.dataset:
        drawn = draw_options(run.condition, _rng(layout.seed, image.relative))
    record: dict[str, Any] = {
        "condition": run.condition.name,
        "options": check_options(run.condition, {**drawn, **run.options}),
        "resolution": run.resolution,
    }
    truth = _truth(image, run, layout)
    return record if truth is None else record | {"ground_truth": truth.name}


def _rng(seed: int, relative: Path) -> np.random.Generator:
    """Depends on the image's name, not on its place in a list that may grow."""
    digest = hashlib.sha256(os.fsencode(relative.as_posix())).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _without_own_files(plans: list[Plan]) -> list[Plan]:
    """Leave out images that are outputs or maps of this very plan, where folders coincide."""
    own = {os.path.abspath(path) for plan in plans for path in plan.outputs}
    own |= {os.path.abspath(t.truth) for plan in plans for t in plan.targets if t.truth}
    return [plan for plan in plans if os.path.abspath(plan.image.path) not in own]


# --- what cannot work ---------------------------------------------------------------------------


def _check_layout(count: int, runs: Sequence[Run], layout: Layout, *, stdin: bool) -> None:
    """Say which flags contradict each other before anything is loaded or written."""
    if max(count, len(runs)) > 1 and layout.is_one_file:
        raise CnctlError(
            f"-o {shown(layout.out)} is one file for {count * len(runs)} hints",
            hint="name a folder",
        )
    if len(runs) > 1 and layout.dataset:
        raise CnctlError("--dataset holds hints of one condition", hint="run it once for each")
    if layout.compared and (layout.dataset or layout.is_one_file or stdin):
        raise CnctlError(
            "--compare puts images beside their hints, in a folder of files",
            hint="leave out --dataset, and name files and a folder",
        )
    if layout.ground_truth is None:
        return
    if stdin or not layout.ground_truth.is_dir():
        raise CnctlError(
            f"--ground-truth {shown(layout.ground_truth)} is no folder with the maps of files",
            hint="name the folder that holds the maps in the tree of the images",
        )
    for run in runs:
        if run.condition.ground_truth is None:
            raise CnctlError(
                f"{run.condition.name} reads no ground truth",
                hint="leave out --ground-truth, and its hints are detected",
            )


def _check_paths(plans: Sequence[Plan]) -> None:
    """Say which outputs would collide, or be stored in another form than they must."""
    sources: dict[Path, Path] = {}
    for plan in plans:
        source = plan.image.path
        for path in plan.outputs:
            if path in sources:
                raise CnctlError(
                    f"{shown(sources[path])} and {shown(source)} would both become {shown(path)}",
                    hint="rename one, or annotate them into two folders",
                )
            sources[path] = source
            if path != STDOUT and _same_file(path, source):
                raise CnctlError(
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
