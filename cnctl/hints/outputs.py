"""Hints among images: files that `cnctl annotate` wrote are not photographs to annotate."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, TypeVar

from cnctl.data.annotated import PLAN
from cnctl.errors import CnctlError, counted
from cnctl.images import ImageFile, find_images, read_metadata
from cnctl.registry import condition_names

METADATA_KEY = "cnctl"
COMPARED = "compared"
"""Key of a sheet's record: those of the hints on it."""

Found = TypeVar("Found")


def find_photographs(items: Sequence[str | Path], note: Callable[[str], None]) -> list[ImageFile]:
    """The images of files, folders and globs, as `find_images` gives them; of folders and globs
    without hints that annotate wrote. note says how many those are.
    """
    named = {os.path.abspath(item) for item in items}
    found = find_images(items)
    others = [image for image in found if os.path.abspath(image.path) not in named]
    left_out = {*others} - {*without_hints(others, lambda image: image.path, note)}
    return [image for image in found if image not in left_out]


def without_hints(
    found: Iterable[Found], path_of: Callable[[Found], Path], note: Callable[[str], None]
) -> Iterator[Found]:
    """Yield what is not a hint or sheet that annotate wrote; note says how many were."""
    count, kinds = 0, frozenset({*condition_names(), "hint", "compare"})
    for item in found:
        if _is_hint(path_of(item), kinds):
            count += 1
        else:
            yield item
    if count:
        found_hints = f"{counted(count, 'hint')} that annotate wrote"
        note(f"{found_hints}: not read as images; give such a file by its name to use it")


def stored_record(path: Path) -> Mapping[str, Any]:
    """What a file says it was made of; {} for one that annotate has not written."""
    with contextlib.suppress(CnctlError, ValueError, TypeError):
        return dict(json.loads(read_metadata(path).get(METADATA_KEY, "")))
    return {}


def _is_hint(path: Path, kinds: Container[str]) -> bool:
    """Whether annotate wrote this hint or sheet; only files with such names are opened.

    They are cat-canny.png and, in a data set, 000000000.canny.png.
    """
    stem = PurePath(path.stem)
    if stem.suffix.removeprefix(".") in kinds:
        return _is_in_data_set(path)
    ends = [stem.name[place + 1 :] for place, letter in enumerate(stem.name) if letter == "-"]
    return any(end in kinds for end in ends) and bool(
        {"condition", COMPARED} & stored_record(path).keys()
    )


def _is_in_data_set(path: Path) -> bool:
    """Whether it is pairs/train/000000/000000000.hint.png and pairs/ has a plan."""
    folders = path.absolute().parents
    return len(folders) > 2 and _has_plan(folders[2])


@lru_cache(maxsize=64)
def _has_plan(folder: Path) -> bool:
    return os.path.isfile(folder / PLAN)
