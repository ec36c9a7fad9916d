"""Every Nth frame of video files, as OpenCV decodes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cnctl.curation.rows import Place, Row
from cnctl.curation.sources.broken import broken_row
from cnctl.curation.sources.content import Content
from cnctl.errors import CnctlError, shown
from cnctl.images import encode_image

KIND = "frame"
ROUNDED = 0.02
"""Share of the frames by which a header's count may be too large: it is often made of seconds."""
SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg"})


def frame_rows(path: Path, name: str, *, every: int, note: Callable[[str], None]) -> Iterator[Row]:
    """Yield frames 0, every, 2 * every, ... of a video; one that cannot be opened is a row, too.

    note: is called where the file's header counts more frames than it holds.
    """
    count, stated = _count(path)
    if not count:
        yield broken_row(name, "it holds no frames that OpenCV can decode")
    elif stated - count > max(1, stated * ROUNDED):
        note(f"{shown(path)}: only {count} of {stated} frames can be decoded; it may be cut off")
    for number in range(0, count, every):
        yield Row(f"{name}, frame {number}", (KIND, str(path), number), "", path.stat().st_size)


def read(place: Place) -> Content:
    """The frame as a PNG file: a video holds no file of it."""
    frame = _open(str(place[1])).frame(int(place[2]))
    return Content(encode_image(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), ".png", {}))


class _Video:
    """A video that is read forwards: seeking is not exact in all formats."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._capture: Any = cv2.VideoCapture(path)
        self._next = 0

    def frame(self, number: int) -> np.ndarray:
        if number < self._next:
            self._capture = cv2.VideoCapture(self._path)
            self._next = 0
        while self._next < number and self._capture.grab():
            self._next += 1
        self._next += 1
        is_read, frame = self._capture.read()
        if not is_read:
            raise CnctlError("the video ends before this frame")
        return frame


@lru_cache(maxsize=1)
def _open(path: str) -> _Video:
    return _Video(path)


def _count(path: Path) -> tuple[int, int]:
    """How many frames there are, counted, and how many the header states: it is often wrong."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count, stated
