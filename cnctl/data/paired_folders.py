"""Pairs of files with equal names, without an index.

images/1.png, images/1.txt and conditioning/1.png are an image, its prompt and its hint, as the
trainers of kohya-ss and SimpleTuner read them; so are 1.png, 1.txt and 1-condlabel.png in one
folder, as OneTrainer reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnctl.data.columns import FOLDERS, HINT_SUFFIXES
from cnctl.data.folder import FolderDataset, HintSource, Row, pack_rows
from cnctl.data.problems import Problem
from cnctl.errors import CnctlError, counted, reading, shown
from cnctl.images import SUFFIXES
from cnctl.system.lines import decode

LABEL = "-condlabel"
MASK = "-masklabel"
TEXT = (".txt", ".caption")

Files = dict[str, list[Path]]
"""Files by their path without suffix; of several with one name all."""


class PairedFiles(NamedTuple):
    """The files of each role, and where hints are looked for, in words."""

    images: Files
    hints: Files
    prompts: Files
    place: str
    """"" where hints are all to be detected."""


def find_paired(folder: Path, given: Mapping[str, str]) -> PairedFiles | None:
    """Return the files of a folder that are paired by name, or None. given: names of folders."""
    names = FOLDERS.replaced(given)
    image, hint, prompt = (
        next((folder / name for name in each if (folder / name).is_dir()), None) for each in names
    )
    if image is not None and (hint is not None or given.get("hint") == ""):
        return PairedFiles(
            images=_files(image, SUFFIXES),
            hints=_files(hint, HINT_SUFFIXES) if hint else {},
            prompts={} if given.get("prompt") == "" else _files(prompt or image, TEXT),
            place=f"{hint.name}/" if hint else "",
        )
    found = _files(folder, HINT_SUFFIXES)
    hints = {key.removesuffix(LABEL): paths for key, paths in found.items() if key.endswith(LABEL)}
    if not hints:
        return None
    images = {key: paths for key, paths in found.items() if not key.endswith((LABEL, MASK))}
    return PairedFiles(images, hints, _files(folder, TEXT), place=f"a file *{LABEL}.png")


def find_hints(folder: Path) -> Path | None:
    """Return the folder of hints, or the first hint, of a folder that pairs images with hints.

    Only the names in the folder itself are looked at.
    """
    image, hint, _ = (
        next((folder / name for name in names if (folder / name).is_dir()), None)
        for names in FOLDERS
    )
    if image is not None and hint is not None:
        return hint
    return next(folder.glob(f"*{LABEL}.*"), None)


def open_paired(
    folder: Path, files: PairedFiles, *, read_hint: Callable[[HintSource], np.ndarray]
) -> FolderDataset:
    """Open a folder whose files `find_paired` has found; prompts are read, images are not."""
    rows = tuple(
        Row(
            image=paths[0],
            hint=files.hints.get(key, [None])[0],
            prompt="".join(_text(path) for path in files.prompts.get(key, [])[:1]),
        )
        for key, paths in files.images.items()
    )
    if not rows:
        raise CnctlError(f"{shown(folder)} holds no images", hint="add images with equal names")
    listed = "".join(f"{row.image.relative_to(folder)} {row.hint} {row.prompt}\n" for row in rows)
    return FolderDataset(
        folder=folder,
        texts=pack_rows(rows, folder),
        read_hint=read_hint,
        fingerprint=hashlib.sha256(listed.encode("utf-8", "surrogateescape")).hexdigest(),
        problems=(*_duplicates(folder, files), *_unpaired(folder, files), *_unread(folder, files)),
    )


def _files(folder: Path, suffixes: frozenset[str] | set[str] | tuple[str, ...]) -> Files:
    files: Files = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if path.suffix.lower() in suffixes and not hidden and path.is_file():
            files.setdefault(below.with_suffix("").as_posix(), []).append(path)
    return files


def _text(path: Path) -> str:
    with reading(path):
        return decode(path.read_bytes(), path).strip()


def _duplicates(folder: Path, files: PairedFiles) -> Iterator[Problem]:
    for role in (files.images, files.hints, files.prompts):
        for first, *others in role.values():
            if others:
                what = f"the same name as {shown(others[0].relative_to(folder))}"
                name = shown(first.relative_to(folder))
                yield Problem(name, what, fatal=True, hint="remove or rename one of them")


def _unpaired(folder: Path, files: PairedFiles) -> Iterator[Problem]:
    """Yield images without a hint, which stop training, and hints and prompts without an image."""
    for key, paths in files.images.items():
        if files.place and key not in files.hints:
            what = f"it has no hint in {files.place}"
            name = shown(paths[0].relative_to(folder))
            yield Problem(name, what, fatal=True, hint="add its hint, or remove it")
    for role in (files.hints, files.prompts):
        for key, paths in role.items():
            if key not in files.images:
                yield Problem(shown(paths[0].relative_to(folder)), "there is no image of this name")


def _unread(folder: Path, files: PairedFiles) -> Iterator[Problem]:
    used = {path for role in files[:3] for paths in role.values() for path in paths}
    found = _files(folder, {*HINT_SUFFIXES, *TEXT}).values()
    others = [path for paths in found for path in paths if path not in used]
    if others:
        first = shown(others[0].relative_to(folder))
        yield Problem(
            shown(folder), f"not read: {counted(len(others), 'more file')}, the first is {first}"
        )
