"""The images that `cnctl annotate` reads, each once: what is hashed is what is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cnctl.commands.annotate.found import NoFile
from cnctl.commands.annotate.plan import Target
from cnctl.images import ImageFile, read_bytes, read_picture, shown


class InputImages:
    """The images of a run. Each is kept in memory from its first use until `forget`.

    note: is called with a line about what is not read of an image.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._contents: dict[ImageFile, bytes] = {}
        self._pictures: dict[ImageFile, np.ndarray] = {}
        self._sha256: dict[ImageFile, str] = {}

    def identify(self, target: Target) -> Target:
        """The target with its files' content in its record: other files may have their names."""
        contents = {"source_sha256": self.sha256(target.image)}
        if target.truth:
            contents["ground_truth_sha256"] = _sha256(read_bytes(target.truth))
        return replace(target, record={**target.record, **contents})

    def sha256(self, image: ImageFile) -> str:
        """The sha256 of the image's file."""
        if image not in self._sha256:
            self._contents[image] = _read(image)
            self._sha256[image] = _sha256(self._contents[image])
        return self._sha256[image]

    def picture(self, image: ImageFile) -> np.ndarray:
        """The picture at its own size, RGB uint8 (H, W, 3), decoded once. Do not change it."""
        if image not in self._pictures:
            content = self._contents.pop(image, None) or _read(image)
            picture = read_picture(content, name=title(image))
            if text := picture.describe_frames(title(image)):
                self._note(text)
            self._pictures[image] = picture.pixels
        return self._pictures[image]

    def forget(self, image: ImageFile) -> None:
        """Release the memory of an image."""
        for kept in (self._contents, self._pictures, self._sha256):
            kept.pop(image, None)


def title(image: ImageFile) -> str:
    """The image's name in messages."""
    return image.title if isinstance(image, NoFile) else shown(image.path)


def _read(image: ImageFile) -> bytes:
    return image.content if isinstance(image, NoFile) else read_bytes(image.path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
