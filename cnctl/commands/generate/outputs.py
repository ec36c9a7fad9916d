"""The images that `cnctl generate` is to make, and their paths, known before it starts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from cnctl.commands.generate.request import NAME
from cnctl.commands.generate.step_sheets import sheet_path
from cnctl.errors import CnctlError, OutputError, OutputExists, shown
from cnctl.images import names_a_file

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
    save_steps: an image has a sheet of its steps beside it.
    """

    out: Path
    name: str = NAME
    count: int = 1
    seed: int | None = None
    save_steps: bool = False
    overwrite: bool = False
    resume: bool = False

    def plan(self, tasks: Sequence[Task]) -> list[PlannedImage]:
        """`count` images for each task, with seeds in a row.

        Raises OutputError where a file is there already or two images would have one path.
        """
        self._check(tasks)
        images: dict[Path, PlannedImage] = {}
        for task in tasks:
            self._check_below(task.stem)
            self._check_below(task.name(self.name, 0))
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
                if not (self.overwrite or self.resume):
                    self._refuse_existing(path)
                done = self.resume and path.exists()
                images[path] = PlannedImage(task=task, seed=seed, path=path, done=done)
        return list(images.values())

    def plan_again(self, image: PlannedImage, taken: Container[Path]) -> PlannedImage:
        """The image with the next free seed, as another run has written a file of its name.

        taken: the paths of this run's images. Raises OutputExists where its seed was asked for.
        """
        if not self._chooses_seed(image.task):
            raise _exists(image.path)
        seed = self._free_seed(image.task, taken, first=image.seed + 1)
        return replace(image, seed=seed, path=self.path(image.task, seed))

    def existing(self, path: Path) -> Path | None:
        """The file that is there of an image and its sheet; None where their names are free."""
        paths = [path, sheet_path(path)] if self.save_steps else [path]
        return next(filter(os.path.lexists, paths), None)

    def path(self, task: Task, seed: int) -> Path:
        """The path of an image."""
        if names_a_file(self.out):
            return self.out
        return self.out / task.folder / f"{task.name(self.name, seed)}.png"

    def _first_seed(self, task: Task, taken: Container[Path]) -> int:
        if not self._chooses_seed(task):
            return next(seed for seed in (task.seed, self.seed, 0) if seed is not None)
        return self._free_seed(task, taken, first=0, count=self.count)

    def _chooses_seed(self, task: Task) -> bool:
        """Whether the task's seeds are those whose files are free."""
        is_given = task.seed is not None or self.seed is not None
        return not (is_given or self.resume or names_a_file(self.out) or "{seed}" not in self.name)

    def _free_seed(self, task: Task, taken: Container[Path], *, first: int, count: int = 1) -> int:
        """The first seed from here on that starts `count` whose files are free."""
        for seed in itertools.count(first):
            paths = [self.path(task, seed + offset) for offset in range(count)]
            if not any(self.existing(path) or path in taken for path in paths):
                return seed
        raise AssertionError

    def _refuse_existing(self, path: Path) -> None:
        if found := self.existing(path):
            raise _exists(found)

    def _check_below(self, name: str) -> None:
        """Raise OutputError for a name that leads out of the output folder."""
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise OutputError(
                f"{shown(name)} leads out of {shown(self.out)}", hint="give another name, or -o"
            )

    def _check(self, tasks: Sequence[Task]) -> None:
        if self.count < 1:
            raise CnctlError(f"-n {self.count} makes no image", hint="give at least 1")
        for seed in (self.seed, *(task.seed for task in tasks)):
            if seed is not None and not 0 <= seed <= MAX_SEED - self.count:
                most = MAX_SEED - self.count
                raise CnctlError(f"seed {seed} is out of range", hint=f"use 0 to {most}")
        is_file = names_a_file(self.out)
        if is_file and len(tasks) * self.count > 1:
            raise CnctlError(f"-o {self.out} is one file for several images", hint="name a folder")
        if is_file and self.out.suffix.lower() != ".png":
            hint = f"-o {self.out.with_suffix('.png')}"
            raise CnctlError(f"-o {self.out}: images are PNG", hint=hint)
        try:
            self.name.format(**EVERYWHERE)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise CnctlError(
                f"--name {self.name!r} is not valid",
                hint="it may hold " + ", ".join(f"{{{name}}}" for name in EVERYWHERE),
            ) from error


def _exists(path: Path) -> OutputExists:
    hint = "take another --seed or -o, or --overwrite, or --resume"
    return OutputExists(f"{path} exists", hint=hint)
