"""The record in a generated image: all that made it, so that it can be made again.

The PNG holds it as JSON. It names files without their folders, and identifies them by sha256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.commands.shared import typed_json
from cnctl.errors import CnctlError, shown
from cnctl.images import read_metadata
from cnctl.plugin import OptionValue

FORMAT = 1
"""Version of the JSON object; one without a number, as cnctl wrote at first, has format 1 too."""
KEY = "cnctl"
"""The name of the PNG's text chunk."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file. sha256: of its content; of a hint, of its pixels."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class WeightsRecord(FileRecord):
    """A ControlNet's weights. given: as the request names them, "" for the base's own.

    config: the config.json that was given for them.
    """

    given: str
    config: FileRecord | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedControl:
    """One control, without its hint."""

    condition: str
    plugin: str
    options: Mapping[str, OptionValue]
    source: FileRecord
    weights: WeightsRecord
    region: FileRecord | None = None
    scale: float
    start: float
    end: float
    mode: str
    step_scales: tuple[float, ...] = ()
    residual_scales: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ControlRecord(PlannedControl):
    """One control, with the hint as the network read it."""

    hint: FileRecord


@dataclass(frozen=True, kw_only=True)
class LoraRecord(FileRecord):
    """A LoRA of the base."""

    scale: float


@dataclass(frozen=True, kw_only=True)
class EmbeddingRecord(FileRecord):
    """A textual inversion, and the word that stands for it."""

    word: str


@dataclass(frozen=True, kw_only=True)
class EditRecord:
    """What image-to-image or inpainting started from."""

    image: FileRecord
    mask: FileRecord | None = None
    strength: float


@dataclass(frozen=True, kw_only=True)
class BatchRecord:
    """The place of an image in its batch: rounding differs between batch sizes."""

    index: int
    size: int


@dataclass(frozen=True, kw_only=True)
class PlannedRecord:
    """What is known of an image before it is made.

    settings: `GenerateSettings` by name, without control_*, which each control has.
    size: (width, height) where the request gives it.
    """

    dtype: str
    base: str
    base_sha256: str
    family: str
    settings: Mapping[str, OptionValue]
    prompt: str
    negative_prompt: str
    seed: int
    controls: tuple[PlannedControl, ...]
    loras: tuple[LoraRecord, ...] = ()
    embeddings: tuple[EmbeddingRecord, ...] = ()
    size: tuple[int, int] | None = None
    edit: EditRecord | None = None
    quantized: str = ""
    """The form of the base's linear layers, as `--quantize` has it."""

    def differences(self, found: PlannedRecord) -> list[str]:
        """The names of what is planned here and was otherwise in another image."""
        return [*_differing(self, found, "record")]


@dataclass(frozen=True, kw_only=True)
class ImageRecord(PlannedRecord):
    """All that made an image; width and height are its own, in pixels.

    version, libraries, device: of cnctl, of torch and diffusers, "cpu" or "cuda". threads: of the
    CPU; 0 on another device, or not known. compiled: whether by torch.compile.
    """

    controls: tuple[ControlRecord, ...]
    version: str
    libraries: Mapping[str, str]
    device: str
    batch: BatchRecord
    width: int
    height: int
    threads: int = 0
    compiled: bool = False

    def to_json(self) -> dict[str, Any]:
        """The JSON object, with the settings among its own keys."""
        document = typed_json.to_json(self)
        settings = document.pop("settings")
        return {"format": FORMAT, **document, **settings}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ImageRecord:
        """The record of a JSON object; keys that are not fields are settings, known or not.

        Raises CnctlError for a newer format, ValueError for what is not a record.
        """
        _check_format(document)
        names = {field.name for field in fields(cls)}
        own = {name: value for name, value in document.items() if name in names}
        settings = {n: v for n, v in document.items() if n not in {*names, "format"}}
        record: ImageRecord = typed_json.from_json(cls, own | {"settings": settings})
        return record


def read_record(path: Path) -> ImageRecord:
    """The record of an image; CnctlError where it has none, or one that cannot be read."""
    if (record := find_record(path)) is None:
        raise CnctlError(
            f"{shown(path)} does not say how it was made",
            hint="give a PNG of cnctl generate that has its metadata",
        )
    return record


def find_record(path: Path) -> ImageRecord | None:
    """The record of an image; None where it has none.

    Raises CnctlError where the record is damaged or of a newer format, or the image unreadable.
    """
    text = read_metadata(path).get(KEY, "")
    try:
        document = json.loads(text)
        document["controls"], document["batch"]  # what annotate writes into hints has neither
    except (KeyError, ValueError, TypeError):
        return None
    try:
        return ImageRecord.from_json(document)
    except ValueError as error:
        raise damaged(path, error) from error
    except CnctlError as error:
        raise CnctlError(f"{shown(path)}: {error}", hint=error.hint) from error


def hint_sha256(hint: np.ndarray) -> str:
    """The sha256 of a hint's pixels, whatever file they are stored in."""
    return hashlib.sha256(np.ascontiguousarray(hint).tobytes()).hexdigest()


def damaged(path: Path, error: ValueError) -> CnctlError:
    """The error of a record that is not as cnctl writes it."""
    return CnctlError(
        f"the record in {shown(path)} is damaged: {error}",
        hint="give a PNG as cnctl generate wrote it",
    )


def _check_format(document: Mapping[str, Any]) -> None:
    found = document.get("format", 1)
    if found not in range(1, FORMAT + 1):
        raise CnctlError(
            f"the record has format {found}, and this version of cnctl reads formats up to "
            f"{FORMAT}",
            hint=f"install cnctl {document.get('version', '')}, which wrote it, or a newer one",
        )


def _differing(wanted: Any, found: Any, name: str) -> Iterator[str]:
    """The names of the innermost parts of `wanted` that `found` has otherwise."""
    if is_dataclass(wanted) and found is not None:
        for field in fields(wanted):
            name = field.name
            yield from _differing(getattr(wanted, name), getattr(found, name), name)
    elif isinstance(wanted, Mapping):
        for key in {**wanted, **found}:
            yield from _differing(wanted.get(key), found.get(key), key)
    elif isinstance(wanted, tuple) and found is not None and len(wanted) == len(found):
        for one, other in zip(wanted, found, strict=True):
            yield from _differing(one, other, name)
    elif wanted != found:
        yield name
