"""The images that `cnctl generate` is to make, and their paths, known before it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.commands.generate.parameters import format_parameters
from cnctl.commands.generate.record import KEY, ImageRecord, hint_sha256
from cnctl.commands.generate.request import NAME
from cnctl.errors import CnctlError, OutputError
from cnctl.images import hint_suffix, read_hint, write_hint, write_image

MAX_SEED = 2**63 - 1
EVERYWHERE = {"stem": "s", "input": "i", "conditions": "c", "variant": "v", "prompt": 1, "seed": 0}
"""The parts of a name, with examples."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The input and the prompt of one or more images.

    image: read by controls without their own source. folder: relative to the output folder.
    variant: the settings that a sweep sets, and the number of the prompt where there are several.
    seed: of the first image; None for the run's.
    """

    image: Path | None
    input: str
    conditions: str
    prompt: str
    negative_prompt: str
    folder: Path = Path()
    variant: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None

    @property
    def stem(self) -> str:
        """The name of its hint, and the first part of its images' names."""
        return f"{self.input}-{self.conditions}" if self.conditions else self.input

    def name(self, template: str, seed: int) -> str:
        """The name of one of its images, without suffix."""
        own = {"p" if name == "prompt" else name: value for name, value in self.variant.items()}
        return template.format(
            stem=self.stem,
            input=self.input,
            conditions=self.conditions,
            variant="".join(f"-{name}{value}" for name, value in own.items()),
            prompt=self.variant.get("prompt", 1),
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class PlannedImage:
    """One image to make of a task. done: it exists already."""

    task: Task
    seed: int
    path: Path
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class OutputLayout:
    """The paths of images. out: a folder, or the .png of a single image. name: as `NAME`.

    seed: of the first image of each task; None for the first from 0 whose files are free.
    """

    out: Path
    name: str = NAME
    count: int = 1
    seed: int | None = None
    overwrite: bool = False
    resume: bool = False

    def plan(self, tasks: Sequence[Task]) -> list[PlannedImage]:
        """`count` images for each task, with seeds in a row.

        Raises OutputError where a file is there already or two images would have one path.
        """
        self._check(tasks)
        images: dict[Path, PlannedImage] = {}
        for task in tasks:
            first = self._first_seed(task, images)
            for seed in range(first, first + self.count):
                path = self.path(task, seed)
                if path in images:
                    raise OutputError(
                        f"{images[path].task.image} and {task.image} would both become {path}"
                        if images[path].task.image != task.image
                        else f"two images would both become {path}",
                        hint="generate into different folders, or give names by --name",
                    )
                if path.exists() and not (self.overwrite or self.resume):
                    hint = "take another --seed or -o, or --overwrite, or --resume"
                    raise OutputError(f"{path} exists", hint=hint)
                done = self.resume and path.exists()
                images[path] = PlannedImage(task=task, seed=seed, path=path, done=done)
        return list(images.values())

    def path(self, task: Task, seed: int) -> Path:
        """The path of an image."""
        if self.out.suffix:
            return self.out
        return self.out / task.folder / f"{task.name(self.name, seed)}.png"

    def _first_seed(self, task: Task, taken: Mapping[Path, PlannedImage]) -> int:
        if task.seed is not None:
            return task.seed
        if self.seed is not None or self.out.suffix or self.resume or "{seed}" not in self.name:
            return self.seed or 0
        first = 0
        while True:
            paths = [self.path(task, first + offset) for offset in range(self.count)]
            if not any(path.exists() or path in taken for path in paths):
                return first
            first += 1

    def _check(self, tasks: Sequence[Task]) -> None:
        if self.count < 1:
            raise CnctlError(f"-n {self.count} makes no image", hint="give at least 1")
        for seed in (self.seed, *(task.seed for task in tasks)):
            if seed is not None and not 0 <= seed <= MAX_SEED - self.count:
                most = MAX_SEED - self.count
                raise CnctlError(f"seed {seed} is out of range", hint=f"use 0 to {most}")
        if self.out.suffix and len(tasks) * self.count > 1:
            raise CnctlError(f"-o {self.out} is one file for several images", hint="name a folder")
        if self.out.suffix not in ("", ".png"):
            hint = f"-o {self.out.with_suffix('.png')}"
            raise CnctlError(f"-o {self.out}: images are PNG", hint=hint)
        try:
            self.name.format(**EVERYWHERE)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise CnctlError(
                f"--name {self.name!r} cannot be filled in",
                hint="it may hold " + ", ".join(f"{{{name}}}" for name in EVERYWHERE),
            ) from error


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One image on disk, and all that made it."""

    path: Path
    hint: Path
    record: ImageRecord
    """The content of its metadata, even if none were written."""
    variant: Mapping[str, Any] = field(default_factory=dict)
    """The settings of a sweep, the number of the prompt and the seed."""

    def as_dict(self) -> dict[str, Any]:
        """The image as `--json` prints it."""
        return {"path": self.path, "hint": self.hint, **self.record.to_json()}

    def _repr_png_(self) -> bytes:
        """The image itself, where a notebook shows this value."""
        return self.path.read_bytes()


def hint_paths(task: Task, out: Path, channels: Sequence[int]) -> list[Path]:
    """The paths of a task's hints, beside its images: X-hint.png, X-hint-2.png, ..."""
    folder = out.parent if out.suffix else out / task.folder
    return [
        folder / f"{task.stem}-hint{'' if i == 1 else f'-{i}'}{hint_suffix(count)}"
        for i, count in enumerate(channels, 1)
    ]


def write_hints(
    paths: Sequence[Path], hints: Sequence[np.ndarray], *, overwrite: bool, written: set[Path]
) -> list[Path]:
    """Write hints, (H, W, C); returns their paths.

    Where another hint is, X-hint.png becomes X-hint-1a2b3c4d.png by its content, so that images
    that were made of the other can be made again. overwrite: it is replaced, unless it is `written`
    by this run, to which what is written now is added.
    """
    places = []
    for path, hint in zip(paths, hints, strict=True):
        may_replace = overwrite and path not in written
        place = path if may_replace or not _is_other(path, hint) else _by_content(path, hint)
        if may_replace or not place.exists():
            write_hint(place, hint, overwrite=True)
        written.add(place)
        places.append(place)
    return places


def _is_other(path: Path, hint: np.ndarray) -> bool:
    """Whether the file exists and is not this hint."""
    if not path.exists():
        return False
    try:
        found = read_hint(path, channels=hint.shape[2])
    except CnctlError:
        return True
    return not np.array_equal(found, hint)


def _by_content(path: Path, hint: np.ndarray) -> Path:
    return path.with_name(f"{path.stem}-{hint_sha256(hint)[:8]}{path.suffix}")


def write_generated(
    planned: PlannedImage, image: np.ndarray, hint: Path, record: ImageRecord, *, private: bool
) -> GeneratedImage:
    """Write an image, uint8 (H, W, 3), with all that made it in its metadata unless private."""
    document = json.dumps(record.to_json(), ensure_ascii=False, default=str)
    texts = {} if private else {KEY: document, "parameters": format_parameters(record)}
    write_image(planned.path, image, metadata=texts, overwrite=True)
    return generated(planned, hint, record)


def generated(planned: PlannedImage, hint: Path, record: ImageRecord) -> GeneratedImage:
    """An image that is on disk."""
    variant = {**planned.task.variant, "seed": planned.seed}
    return GeneratedImage(path=planned.path, hint=hint, record=record, variant=variant)
