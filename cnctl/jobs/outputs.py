"""Which images `cnctl generate` is to make and where: all decided before the work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.errors import CnctlError, OutputError
from cnctl.images import hint_suffix, write_hint, write_image
from cnctl.jobs.provenance import metadata

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Task:
    """What images are to be made of.

    image: what controls without a source of their own read. stem: what its hint is called, and
    its images with the suffix, which tells the prompts of one image apart.
    """

    image: Path | None
    stem: str
    suffix: str
    prompt: str
    negative_prompt: str


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One image to make of a task."""

    task: Task
    seed: int
    path: Path


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """One image on disk, and all that made it."""

    path: Path
    hint: Path
    record: Mapping[str, Any]
    """seed, prompt, width, height, base, controls, settings: what its metadata say too."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"path": self.path, "hint": self.hint, **self.record}

    def _repr_png_(self) -> bytes:
        """The image itself, where a notebook shows this value."""
        return self.path.read_bytes()


def plan_shots(
    tasks: Sequence[Task], *, out: Path, count: int, seed: int | None, overwrite: bool
) -> list[Shot]:
    """`count` images for each task, with seeds in a row from `seed`.

    out: a folder, or the .png of a single image. seed: None for the first from 0 whose files are
    free. Raises OutputError where a file is there already or two images would have one path.
    """
    _check_counts(out, tasks=len(tasks), count=count, seed=seed)
    shots: dict[Path, Shot] = {}
    for task in tasks:
        first = _first_free(task, out, count, shots) if seed is None else seed
        for value in range(first, first + count):
            path = _image_path(task, out, value)
            if path in shots:
                raise OutputError(
                    f"{task.image} and {shots[path].task.image} would both become {path}",
                    hint="generate them into different folders",
                )
            if path.exists() and not overwrite:
                raise OutputError(
                    f"{path} exists", hint="take another --seed or -o, or --overwrite"
                )
            shots[path] = Shot(task=task, seed=value, path=path)
    return list(shots.values())


def keep_hints(task: Task, out: Path, hints: Sequence[np.ndarray]) -> list[Path]:
    """Write the hints, uint8 (H, W, C), of a task beside its images: X-hint.png, X-hint-2.png."""
    folder = out.parent if out.suffix else out
    paths = []
    for number, hint in enumerate(hints, 1):
        name = f"{task.stem}-hint" + (f"-{number}" if number > 1 else "")
        paths.append(folder / f"{name}{hint_suffix(hint.shape[2])}")
        write_hint(paths[-1], hint, overwrite=True)
    return paths


def write_shot(
    shot: Shot, image: np.ndarray, hint: Path, record: Mapping[str, Any], *, private: bool
) -> GeneratedImage:
    """Write an image, uint8 (H, W, 3), with all that made it in its metadata unless private."""
    height, width = image.shape[:2]
    full = {**record, "seed": shot.seed, "width": width, "height": height}
    texts = {} if private else metadata(full)
    write_image(shot.path, image, metadata=texts, overwrite=True)
    return GeneratedImage(path=shot.path, hint=hint, record=full)


def _check_counts(out: Path, *, tasks: int, count: int, seed: int | None) -> None:
    if count < 1:
        raise CnctlError(f"-n {count} makes no image", hint="give at least 1")
    if seed is not None and not 0 <= seed <= MAX_SEED - count:
        raise CnctlError(f"seed {seed} is out of range", hint=f"use 0 to {MAX_SEED - count}")
    if out.suffix and tasks * count > 1:
        raise CnctlError(f"-o {out} is one file for several images", hint="name a folder")
    if out.suffix not in ("", ".png"):
        raise CnctlError(f"-o {out}: images are PNG", hint=f"-o {out.with_suffix('.png')}")


def _image_path(task: Task, out: Path, seed: int) -> Path:
    return out if out.suffix else out / f"{task.stem}{task.suffix}-{seed}.png"


def _first_free(task: Task, out: Path, count: int, taken: Mapping[Path, Shot]) -> int:
    if out.suffix:
        return 0
    first = 0
    while True:
        paths = [_image_path(task, out, first + offset) for offset in range(count)]
        if not any(path.exists() or path in taken for path in paths):
            return first
        first += 1
