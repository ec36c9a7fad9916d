"""Find the rows of all inputs of a run, in a fixed order."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from cnctl.curation.rows import Row
from cnctl.curation.sources import files, lists, tables, tars, videos
from cnctl.data.braces import expand_braces
from cnctl.data.folder import INDEXES
from cnctl.data.paired_folders import find_hints
from cnctl.data.tables import find_tables
from cnctl.data.urls import is_url
from cnctl.errors import CnctlError, counted, reading, shown
from cnctl.hints.outputs import without_hints
from cnctl.images import SUFFIXES, UNREADABLE_PHOTOS, matched_images

STANDARD_INPUT = "standard input"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run reads. paths: a file that lists paths, "-" for standard input; "" for none.

    columns: names of columns, as `parse_columns` gives them. every: the step between the frames
    that are taken of a video; None where videos are not read.
    """

    given: Sequence[str]
    paths: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    every: int | None = None
    note: Callable[[str], None] = lambda text: None
    """Called with a line on what is read where there is a choice."""


def find_rows(inputs: Inputs, *, without: Path) -> Iterator[Row]:
    """Yield the rows of all inputs as they are given, each in its own order.

    without: the output folder, whose files are not inputs. Raises CnctlError for
    an input that does not exist or gives nothing.
    """
    captions = dict.fromkeys(filter(_is_caption, inputs.given))
    if captions:
        named = shown(next(iter(captions))) + (
            f" and {len(captions) - 1} more" * (len(captions) > 1)
        )
        inputs.note(f"{named}: read as captions of images, not as lists")
    for item in inputs.given:
        if item in captions:
            continue
        yield from _some(_rows(item, inputs, without), item)
    if inputs.paths == "-":
        yield from _some(lists.path_rows(sys.stdin.buffer, STANDARD_INPUT), STANDARD_INPUT)
    elif inputs.paths:
        with reading(inputs.paths), open(inputs.paths, "rb") as file:
            yield from _some(lists.path_rows(file, inputs.paths), inputs.paths)


def _is_caption(item: str) -> bool:
    """Whether a .txt lies beside an image of its name, as where a shell lists a whole folder."""
    path = Path(item)
    beside = (path.with_suffix(suffix) for suffix in SUFFIXES)
    return path.suffix.lower() == ".txt" and any(map(Path.is_file, beside))


def check_inputs(inputs: Inputs) -> None:
    """Raise CnctlError for a file or folder that does not exist; nothing is listed."""
    for item in inputs.given:
        if not (is_url(item) or os.path.exists(item)):
            for part in expand_braces(item):
                _matches(part)
    if inputs.paths not in ("", "-"):
        with reading(inputs.paths):
            os.stat(inputs.paths)


def _some(rows: Iterator[Row], item: str) -> Iterator[Row]:
    first = next(rows, None)
    if first is None:
        raise CnctlError(f"{shown(item)} holds no images", hint=_what_is_read(item))
    return chain([first], rows)


def _what_is_read(item: str) -> str:
    if not os.path.isdir(item) and (os.path.exists(item) or item == STANDARD_INPUT):
        return "it has no entries that are images"
    return f"images are {' '.join(sorted(SUFFIXES))}; tar files are named: 'data/*.tar'"


def _rows(item: str, inputs: Inputs, without: Path) -> Iterator[Row]:
    if is_url(item):
        return tars.remote_rows(item, inputs.columns)
    if os.path.isdir(item):
        return _of_folder(Path(item), inputs, without)
    if os.path.exists(item):
        return _of_file(Path(item), Path(item).name, inputs)
    return _of_pattern(item, inputs, without)


def _of_folder(folder: Path, inputs: Inputs, without: Path) -> Iterator[Row]:
    """A folder with an index or tables is a data set, any other one a tree of files."""
    if index := _index_in(folder):
        beside = "the folder's other files and the hints that it names are not"
        inputs.note(f"{shown(index)} is read; {beside}")
        return lists.list_rows(index, inputs.columns)
    if found := find_tables(folder, inputs.note):
        count = counted(len(found), "file")
        inputs.note(f"{shown(folder)} is read as tables: {count}, {shown(found[0])}")
        return tables.table_rows(folder, found, inputs.columns)
    if (hints := find_hints(folder)) and hints.absolute() != without:
        raise CnctlError(
            f"{shown(folder)} is a training set: {shown(hints)} is for hints, not images",
            hint="train on it as it is, or give its images alone",
        )
    _refuse_index_below(folder, without)
    walked = files.walk(folder, suffixes=_suffixes(inputs), without=without)
    below = without_hints(walked, lambda each: each[0], inputs.note)
    return (row for path, name in below for row in _image_or_frames(path, name, inputs))


def _suffixes(inputs: Inputs) -> frozenset[str]:
    """Those of the files that a folder, or a glob without a suffix, means."""
    return SUFFIXES | UNREADABLE_PHOTOS | (videos.SUFFIXES if inputs.every else frozenset())


def _index_in(folder: Path) -> Path | None:
    indexes = [folder / name for name in INDEXES if Path(name).suffix in lists.SUFFIXES]
    return next((path for path in indexes if os.path.isfile(path)), None)


def _refuse_index_below(folder: Path, without: Path) -> None:
    """Refuse a folder of data sets, as train/ and validation/: captions are in their indexes."""
    for below in sorted(Path(path) for path in glob.glob(f"{glob.escape(os.fspath(folder))}/*/")):
        if (index := _index_in(below)) and below.absolute() != without:
            raise CnctlError(
                f"{shown(index)} is not read with {shown(folder)}",
                hint=f"give {shown(below)}; or its images without it: '{shown(folder)}/**'",
            )


def _of_file(path: Path, name: str, inputs: Inputs) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return tars.local_rows(path, inputs.columns)
    if suffix in tables.SUFFIXES:
        return tables.table_rows(path.parent, [path], inputs.columns)
    if suffix in lists.SUFFIXES:
        return lists.list_rows(path, inputs.columns)
    return _image_or_frames(path, name, inputs)


def _image_or_frames(path: Path, name: str, inputs: Inputs) -> Iterator[Row]:
    if path.suffix.lower() not in videos.SUFFIXES:
        return iter([files.found_row(path, name)])
    if inputs.every is None:
        raise CnctlError(f"{shown(path)} is a video", hint="--every 25 takes each 25th frame")
    return videos.frame_rows(path, name, every=inputs.every, note=inputs.note)


def _of_pattern(pattern: str, inputs: Inputs, without: Path) -> Iterator[Row]:
    for part in expand_braces(pattern):
        root = _root(part)
        found = filter(Path.is_file, map(Path, _matches(part)))
        images = matched_images(part, found, suffixes=_suffixes(inputs))
        for match in without_hints(images, Path, inputs.note):
            if without not in match.absolute().parents:
                yield from _of_file(match, match.relative_to(root).as_posix(), inputs)


def _matches(pattern: str) -> list[str]:
    matches = sorted(glob.glob(pattern, recursive=True), key=files.natural)
    if not matches:
        raise CnctlError(f"{shown(pattern)}: no such file or folder", hint="check the name")
    return matches


def _root(pattern: str) -> Path:
    """The part of a glob without wildcards."""
    parts = Path(pattern).parts
    first = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:first])
