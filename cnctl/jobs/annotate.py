"""`cnctl annotate`: images to hints, one or a tree of them, or to a data set for training."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cnctl.dataset import DatasetWriter, Example
from cnctl.errors import CnctlError, OutputError
from cnctl.hints import check_options, load_detections, parse_options
from cnctl.images import (
    MAX_BYTES,
    SUFFIXES,
    ImageFile,
    check_folder,
    check_output,
    encode_hint,
    find_images,
    fit_image,
    hint_suffix,
    read_image,
    read_metadata,
    shown,
    working_size,
    write_hint,
)
from cnctl.plugin import Condition, Detection, OptionValue
from cnctl.registry import get_condition
from cnctl.settings import AnnotateSettings, resolve

STDIN = ImageFile(Path("-"), Path("stdin.png"))
STDOUT = Path("-")
METADATA_KEY = "cnctl"

Detect = Callable[..., Detection | None]


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
class FailedImage:
    """One image that gave no hint, and why, in one sentence."""

    image: Path
    error: str


@dataclass(frozen=True, kw_only=True)
class AnnotateResult:
    """Each image gave a hint per condition, or is among the failed."""

    images: int
    hints: list[AnnotatedHint] = field(default_factory=list)
    failed: list[FailedImage] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        return sum(hint.skipped for hint in self.hints)

    def as_dict(self) -> dict[str, Any]:
        return {
            "hints": [hint.as_dict() for hint in self.hints],
            "failed": [asdict(failure) for failure in self.failed],
        }


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One condition of this call, with what was chosen for it."""

    condition: Condition
    options: Mapping[str, OptionValue]
    resolution: int


@dataclass(frozen=True, kw_only=True)
class _Target:
    """One hint to make."""

    image: ImageFile
    run: _Run
    path: Path
    record: Mapping[str, Any]

    @property
    def hint(self) -> AnnotatedHint:
        return AnnotatedHint(path=self.path, image=self.image.path, record=self.record)


class _Store(Protocol):
    """Where hints go."""

    def holds(self, target: _Target) -> bool:
        """Whether an earlier run made this very hint. OutputError if it made another one."""

    def write(self, target: _Target, image: np.ndarray, hint: np.ndarray) -> None: ...


def annotate(
    conditions: str | Sequence[str],
    inputs: Sequence[str | Path],
    *,
    out: str | Path = "out",
    options: Sequence[str] = (),
    resolution: int | None = None,
    dataset: bool = False,
    seed: int = 0,
    prompt: str | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    commercial: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_failure: Callable[[FailedImage], None] = lambda failure: None,
) -> AnnotateResult:
    """Detect the hints of images; each image is decoded once for all conditions.

    inputs: files, folders, quoted globs; "-" is an image on stdin. out: a folder that takes
    `<stem>-<condition>.png` and keeps the tree; a file, or "-" for stdout, where one image meets
    one condition. options: "name=value", or "condition.name=value" where there are several.
    resolution: short side in pixels; None means the settings', or what the condition trains at.

    dataset: write images/, hints/ and metadata.jsonl for `cnctl train`. The prompt of a.jpg is
    the text of a.txt beside it, or else `prompt`; options that the condition draws at random are
    a function of (seed, relative path), and options that are given stay as given.

    commercial: refuse detectors whose weights are not licensed for commercial use; CNCTL_COMMERCIAL
    asks for the same.

    Hints of an earlier run with the same options are kept, so a run that was stopped can be
    repeated. An image that fails is put down in the result (and told to `on_failure`) and the
    rest goes on; a single one raises its CnctlError. OutputError ends the run.
    """
    runs = _runs([conditions] if isinstance(conditions, str) else conditions, options, resolution)
    images = _find(inputs, out)
    groups = _plan(images, runs, out, dataset_seed=seed if dataset else None)
    _check_plan([target for targets in groups for target in targets])
    result = AnnotateResult(images=len(groups))
    failures = partial(_failures, result=result, on_failure=on_failure, alone=len(groups) == 1)
    with _open_store(out, dataset=dataset, prompt=prompt, overwrite=overwrite) as store:
        detectors = {
            run.condition.name: load_detections(
                run.condition, device=device, commercial=commercial or None
            )
            for run in runs
        }
        for done, targets in enumerate(groups, start=1):
            with failures(targets[0].image):
                for hint in _annotate_image(targets, store, detectors, failures):
                    result.hints.append(hint)
            on_progress(done, len(groups))
    return result


# --- what to do ---------------------------------------------------------------------------------


def _runs(names: Sequence[str], assignments: Sequence[str], resolution: int | None) -> list[_Run]:
    names = list(dict.fromkeys(names))
    if not names:
        raise CnctlError("no condition", hint="name one: --cond canny; see cnctl conditions")
    conditions = [get_condition(name) for name in names]
    return [
        _Run(
            condition=condition,
            options=parse_options(condition, _assignments_for(condition, names, assignments)),
            resolution=_resolution(condition, resolution),
        )
        for condition in conditions
    ]


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


def _plan(
    images: Sequence[ImageFile], runs: Sequence[_Run], out: str | Path, *, dataset_seed: int | None
) -> list[list[_Target]]:
    """All hints to make, grouped by image."""
    one_file = dataset_seed is None and _is_file_name(out)
    if max(len(images), len(runs)) > 1 and one_file:
        raise CnctlError(
            f"-o {shown(out)} is one file for {len(images) * len(runs)} hints",
            hint="name a folder",
        )
    if len(runs) > 1 and dataset_seed is not None:
        raise CnctlError("--dataset holds hints of one condition", hint="run it once for each")
    groups = []
    for image in images:
        targets = []
        for run in runs:
            path = Path(out) if one_file else Path(out) / _name(image, run, dataset_seed)
            record = _record(image, run, dataset_seed)
            targets.append(_Target(image=image, run=run, path=path, record=record))
        groups.append(targets)
    return groups if one_file else _without_hints(groups)


def _without_hints(groups: list[list[_Target]]) -> list[list[_Target]]:
    """Leave out images that are hints of this very plan, where -o is an input folder."""
    hints = {os.path.abspath(target.path) for targets in groups for target in targets}
    return [targets for targets in groups if os.path.abspath(targets[0].image.path) not in hints]


def _is_file_name(out: str | Path) -> bool:
    if out == "-":
        return True
    suffixes = SUFFIXES | {".npz"}
    return Path(out).suffix.lower() in suffixes and not os.path.isdir(out)


def _name(image: ImageFile, run: _Run, dataset_seed: int | None) -> Path:
    """Where the hint lies below -o; the tree of an input folder is kept."""
    suffix = hint_suffix(run.condition.stored_channels)
    if dataset_seed is not None:
        return Path("hints", _pair_name(image) + suffix)
    return image.relative.with_name(f"{image.relative.stem}-{run.condition.name}{suffix}")


def _pair_name(image: ImageFile) -> str:
    return image.relative.with_suffix("").as_posix()


def _record(image: ImageFile, run: _Run, dataset_seed: int | None) -> dict[str, Any]:
    drawn: Mapping[str, OptionValue] = {}
    if dataset_seed is not None and run.condition.training_options:
        drawn = run.condition.training_options(_rng(dataset_seed, image.relative))
    return {
        "condition": run.condition.name,
        "options": check_options(run.condition, {**drawn, **run.options}),
        "resolution": run.resolution,
    }


def _rng(seed: int, relative: Path) -> np.random.Generator:
    """Depends on the image's name, not on its place in a list that may grow."""
    digest = hashlib.sha256(os.fsencode(relative.as_posix())).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _check_plan(targets: Sequence[_Target]) -> None:
    """Say what cannot work before anything is loaded or written."""
    sources: dict[Path, Path] = {}
    for target in targets:
        source, path = target.image.path, target.path
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
        suffix = hint_suffix(target.run.condition.stored_channels)
        if path != STDOUT and path.suffix.lower() != suffix:
            raise CnctlError(
                f"-o {shown(path)}: hints of {target.run.condition.name} are stored as {suffix}",
                hint=f"-o {shown(path.with_suffix(suffix))}",
            )


def _same_file(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):  # one of them is not there
        return one.samefile(other)
    return False


# --- doing it -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _failures(
    image: ImageFile,
    *,
    result: AnnotateResult,
    on_failure: Callable[[FailedImage], None],
    alone: bool,
) -> Iterator[None]:
    """Put bad input down to its image and go on; what would fail every image is raised."""
    try:
        yield
    except CnctlError as error:
        named = _with_name(error, _title(image))
        if alone or not _is_of_the_image(error):
            raise named from error.__cause__
        failure = FailedImage(image=image.path, error=str(named))
        result.failed.append(failure)
        on_failure(failure)


def _title(image: ImageFile) -> str:
    return "standard input" if image is STDIN else shown(image.path)


def _is_of_the_image(error: CnctlError) -> bool:
    """Whether the next image may fare better."""
    too_long = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENAMETOOLONG
    return too_long or error.exit_code == CnctlError.exit_code


def _with_name(error: CnctlError, name: str) -> CnctlError:
    if name in str(error) or error.exit_code != CnctlError.exit_code:
        return error
    return type(error)(f"{name}: {error}", hint=error.hint)


def _annotate_image(
    targets: Sequence[_Target],
    store: _Store,
    detectors: Mapping[str, Detect],
    failures: Callable[[ImageFile], AbstractContextManager[None]],
) -> Iterator[AnnotatedHint]:
    """The hints of one image, which is decoded once, and only if one is missing."""
    missing = [target for target in targets if not store.holds(target)]
    yield from (replace(t.hint, skipped=True) for t in targets if t not in missing)
    picture = _read(targets[0].image) if missing else np.empty(0)
    for target in missing:
        with failures(target.image):
            image, found = _detect(target, picture, detectors[target.run.condition.name])
            store.write(target, image, found.hint)
            yield replace(target.hint, data=found.data)


def _read(image: ImageFile) -> np.ndarray:
    return read_image(sys.stdin.buffer.read(MAX_BYTES + 1) if image is STDIN else image.path)


def _detect(target: _Target, picture: np.ndarray, detect: Detect) -> tuple[np.ndarray, Detection]:
    """The picture at working size, RGB uint8 (h, w, 3), and what was found in it."""
    size = working_size(*picture.shape[:2], resolution=target.run.resolution)
    image = fit_image(picture, size=size)
    found = detect(image, **target.record["options"])
    if found is None:
        raise CnctlError(f"{target.run.condition.name} found nothing in {_title(target.image)}")
    return image, found


# --- where hints go -----------------------------------------------------------------------------


@contextlib.contextmanager
def _open_store(
    out: str | Path, *, dataset: bool, prompt: str | None, overwrite: bool
) -> Iterator[_Store]:
    """The store for -o; OutputError at once if nothing can be written there."""
    if out == "-":
        if sys.stdout.isatty():
            raise CnctlError("a hint is no text for a terminal", hint="add > hint.png, or -o FILE")
        yield _Stream()
    elif dataset:
        if overwrite:
            raise CnctlError("--dataset adds to a folder", hint="choose a new -o to start over")
        with DatasetWriter(out) as writer:
            yield _Pairs(writer, prompt)
    elif _is_file_name(out):
        check_output(out, overwrite=overwrite)
        check_folder(Path(out).parent)
        yield _Files(overwrite)
    else:
        check_folder(out)
        yield _Files(overwrite)


class _Stream:
    """Standard output, for one hint."""

    def holds(self, target: _Target) -> bool:
        return False

    def write(self, target: _Target, image: np.ndarray, hint: np.ndarray) -> None:
        sys.stdout.buffer.write(encode_hint(hint, _metadata(target)))
        sys.stdout.buffer.flush()


@dataclass(frozen=True)
class _Files:
    """One file for each hint, which says in its metadata how it was made."""

    overwrite: bool

    def holds(self, target: _Target) -> bool:
        if self.overwrite or not os.path.exists(target.path):
            return False
        if not target.path.is_file() or _stored_metadata(target.path) != _metadata(target):
            raise OutputError(
                f"{shown(target.path)} exists already and is not this hint",
                hint="--overwrite replaces it; or choose another -o",
            )
        return True

    def write(self, target: _Target, image: np.ndarray, hint: np.ndarray) -> None:
        try:
            write_hint(target.path, hint, metadata=_metadata(target), overwrite=self.overwrite)
        except OutputError:
            if not self.holds(target):  # another run may have made it meanwhile
                raise


def _metadata(target: _Target) -> dict[str, str]:
    return {METADATA_KEY: json.dumps(target.record, sort_keys=True)}


def _stored_metadata(path: Path) -> dict[str, str]:
    with contextlib.suppress(CnctlError):  # not an image at all
        return read_metadata(path)
    return {}


@dataclass(frozen=True)
class _Pairs:
    """A folder for training: images/, hints/, and a line of metadata.jsonl for each pair."""

    writer: DatasetWriter
    prompt: str | None

    def holds(self, target: _Target) -> bool:
        name = _pair_name(target.image)
        if name not in self.writer:
            return False
        if any(self.writer.entry(name).get(k) != value for k, value in target.record.items()):
            raise OutputError(
                f"{shown(target.path)} was made with another condition, seed or options",
                hint="give the same ones to go on, or choose a new -o",
            )
        return True

    def write(self, target: _Target, image: np.ndarray, hint: np.ndarray) -> None:
        name = _pair_name(target.image)
        if not _is_utf8(name):
            raise CnctlError(f"{shown(name)}: a data set's names must be UTF-8", hint="rename it")
        example = Example(image, hint, self._prompt_of(target.image.path))
        self.writer.add(name, example, record=target.record)

    def _prompt_of(self, image: Path) -> str:
        """The text beside the image in one line, or else the prompt for all."""
        sidecar = image.with_suffix(".txt")
        if sidecar.is_file():
            try:
                return " ".join(sidecar.read_text(encoding="utf-8-sig").split())
            except (OSError, UnicodeDecodeError) as error:
                raise CnctlError(f"{shown(sidecar)} cannot be read as UTF-8: {error}") from error
        if self.prompt is None:
            raise CnctlError(
                f"{shown(image)} comes without a prompt",
                hint=f"write {sidecar.name}, or give --prompt",
            )
        return self.prompt


def _is_utf8(name: str) -> bool:
    """Whether the name has no lone surrogate, which stands for a byte that could not be decoded."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
