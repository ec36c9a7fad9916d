"""The files that hold the hints of generated images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnctl.commands.generate.outputs import Task
from cnctl.commands.generate.record import hint_sha256
from cnctl.errors import CnctlError, OutputExists
from cnctl.images import hint_suffix, names_a_file, read_hint, write_hint


def hint_paths(task: Task, out: Path, channels: Sequence[int]) -> list[Path]:
    """The paths of a task's hints, beside its images: X-hint.png, X-hint-2.png, ..."""
    folder = out.parent if names_a_file(out) else out / task.folder
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
        place = path
        if overwrite and path not in written:
            write_hint(path, hint, overwrite=True)
        elif not _write_new(path, hint):
            place = path.with_name(f"{path.stem}-{hint_sha256(hint)[:8]}{path.suffix}")
            if not _write_new(place, hint):
                raise OutputExists(f"{place} exists and is another hint", hint="choose another -o")
        written.add(place)
        places.append(place)
    return places


def _write_new(path: Path, hint: np.ndarray) -> bool:
    """Whether the file holds the hint now; it does not where it held another one."""
    try:
        write_hint(path, hint)
    except OutputExists:
        return _is_same(path, hint)
    return True


def _is_same(path: Path, hint: np.ndarray) -> bool:
    try:
        return np.array_equal(read_hint(path, channels=hint.shape[2]), hint)
    except CnctlError:
        return False
