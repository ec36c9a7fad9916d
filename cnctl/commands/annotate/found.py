"""The images that `cnctl annotate` is given: files, and what lists, tar files and videos hold."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from cnctl.commands.annotate.request import AnnotateRequest
from cnctl.curation.rows import Row
from cnctl.curation.sources import lists, tables, tars, videos
from cnctl.curation.sources.files import path_of
from cnctl.curation.sources.opening import STANDARD_INPUT, Inputs, find_rows
from cnctl.curation.sources.reading import read_row
from cnctl.data.columns import parse_columns
from cnctl.data.tables import find_tables
from cnctl.data.urls import is_url
from cnctl.errors import shown
from cnctl.hints.outputs import find_photographs
from cnctl.images import MAX_BYTES, ImageFile, read_size

HOLDERS = lists.SUFFIXES | tables.SUFFIXES | videos.SUFFIXES | {".tar"}
"""Suffixes of files that name or hold several images."""


class NoFile(ImageFile):
    """An image that is not a file by itself. title: its name in messages."""

    title: str

    @property
    def content(self) -> bytes:
        """What a file of it would hold; CnctlError where it cannot be read."""
        raise NotImplementedError


class StandardInput(NoFile):
    """The image on standard input, which is read when it is first asked for."""

    title = STANDARD_INPUT

    def __init__(self) -> None:
        super().__init__(Path("-"), Path("stdin.png"))

    @cached_property
    def content(self) -> bytes:
        return sys.stdin.buffer.read(MAX_BYTES + 1)


@dataclass(frozen=True)
class FoundRow(NoFile):
    """A row of a table, a member of a tar file, a frame of a video, or what is wrong with one."""

    row: Row
    secrets: Mapping[str, str] = field(compare=False)

    @property
    def title(self) -> str:  # type: ignore[override]
        return shown(self.row.name)

    @property
    def content(self) -> bytes:
        return read_row(self.row, self.secrets).data


def find_inputs(request: AnnotateRequest, note: Callable[[str], None]) -> list[ImageFile]:
    """Return the images of all inputs, standard input first and those of lists and the like last.

    note: is called with what is read where there is a choice.
    """
    items = [str(item) for item in request.inputs if item != "-"]
    held = [item for item in items if _holds_images(item, request)]
    images = find_photographs([item for item in items if item not in held], note)
    if len(items) < len(request.inputs):
        images = [StandardInput(), *images]
    return [*images, *_held(held, request, note)]


def measure(image: ImageFile) -> tuple[int, int]:
    """Return the (height, width) of an image, which is not decoded."""
    return read_size(image.content if isinstance(image, NoFile) else image.path)


def _holds_images(item: str, request: AnnotateRequest) -> bool:
    if os.path.isdir(item):
        return request.every is not None or bool(find_tables(Path(item)))
    return is_url(item) or PurePath(item).suffix.lower() in HOLDERS


def _held(
    items: list[str], request: AnnotateRequest, note: Callable[[str], None]
) -> Iterator[ImageFile]:
    inputs = Inputs(
        given=items,
        paths=request.paths or "",
        columns=parse_columns(request.columns),
        every=request.every,
        note=note,
    )
    secrets = tars.secret_urls([item for item in items if is_url(item)])
    for row in find_rows(inputs, without=Path(os.path.abspath(request.out))):
        path = path_of(row)
        if path is None:
            yield FoundRow(Path(row.name), _relative(row), row, secrets)
        else:
            yield ImageFile(path, _relative(row))


def _relative(row: Row) -> Path:
    """The name of a row as a path that leads nowhere else; that of a cell or frame in one word."""
    if row.place[0] in (tables.KIND, videos.KIND):
        return Path(re.sub(r"\W+", "-", row.name) + ".png")
    parts = PurePath(row.name).parts
    is_below = not PurePath(row.name).is_absolute() and ".." not in parts
    return Path(*parts) if is_below and parts else Path(parts[-1] if parts else "image")
