"""The record of an image, from the base and the controls in memory that make it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cnctl.commands.generate.controls import ACTS
from cnctl.commands.generate.image_to_image import ImageToEdit
from cnctl.commands.generate.loaded_controls import LoadedControl
from cnctl.commands.generate.outputs import PlannedImage
from cnctl.commands.generate.record import (
    BatchRecord,
    ControlRecord,
    EditRecord,
    FileRecord,
    ImageRecord,
    PlannedControl,
    PlannedRecord,
    WeightsRecord,
    hint_sha256,
)
from cnctl.commands.generate.setup import Setup
from cnctl.registry import find_entry
from cnctl.settings import GenerateSettings
from cnctl.tensorfiles.digest import known_sha256

LIBRARIES = ("torch", "diffusers", "transformers")


def plan_record(setup: Setup, image: PlannedImage, sources: Sequence[Path]) -> PlannedRecord:
    """The record of an image before it is made. sources: what each control reads."""
    settings = setup.settings_of(image.task)
    base = setup.base
    given = zip(setup.controls, sources, strict=True)
    return PlannedRecord(
        dtype=str(base.dtype).removeprefix("torch."),
        quantized=base.quantized,
        base=base.name,
        base_sha256=_base_sha256(base.denoiser_weights),
        family=base.family.name,
        settings=_own_settings(settings),
        prompt=image.task.prompt,
        negative_prompt=image.task.negative_prompt,
        seed=image.seed,
        controls=tuple(_control(control, source, settings) for control, source in given),
        loras=setup.adapters.loras,
        embeddings=setup.adapters.embeddings,
        size=setup.request.size,
        edit=_edit(setup.to_edit) if setup.to_edit else None,
    )


def complete_record(
    planned: PlannedRecord,
    image: np.ndarray,
    *,
    prompt: str,
    device: str,
    threads: int,
    compiled: bool,
    batch: BatchRecord,
    hints: Sequence[FileRecord],
) -> ImageRecord:
    """The record of an image (H, W, 3) that is made. hints: one for each control."""
    pairs = zip(planned.controls, hints, strict=True)
    made = {
        "prompt": prompt,
        "controls": tuple(ControlRecord(**_fields(one), hint=hint) for one, hint in pairs),
        "version": version("cnctl"),
        "libraries": {name: version(name) for name in LIBRARIES},
        "device": device,
        "threads": threads,
        "compiled": compiled,
        "batch": batch,
        "width": image.shape[1],
        "height": image.shape[0],
    }
    return ImageRecord(**(_fields(planned) | made))


def describe_hint(hint: np.ndarray, stored: Path) -> FileRecord:
    """A hint (H, W, C) as the network read it, and the file that holds it."""
    return FileRecord(name=stored.name, sha256=hint_sha256(hint))


def unasked_differences(record: ImageRecord, origin: ImageRecord) -> Iterator[str]:
    """Sentences on what an image was made with that its origin was not, though nobody asked."""
    for name, value in origin.libraries.items():
        if (now := record.libraries.get(name)) != value:
            yield f"made with {name} {now}, the first time with {value}"
    if record.device != origin.device:
        yield f"made with device {record.device}, the first time with {origin.device}"
    if record.compiled != origin.compiled:
        yield "only one of this image and the first is made by compiled networks"
    if origin.threads not in (record.threads, 0):
        yield f"made on {record.threads} of the CPU's threads, the first time on {origin.threads}"
    if record.dtype != origin.dtype:
        yield f"made with dtype {record.dtype}, the first time with {origin.dtype}"
    if record.base == origin.base and record.base_sha256 != origin.base_sha256:
        yield f"the base {record.base} has other weights than the first time"
    for control, before in zip(record.controls, origin.controls, strict=False):
        yield from _changed_files([control.weights, control.hint], [before.weights, before.hint])


def _changed_files(now: Sequence[FileRecord], before: Sequence[FileRecord]) -> Iterator[str]:
    for file, first in zip(now, before, strict=True):
        if file.name == first.name and file.sha256 != first.sha256:
            yield f"{file.name} is not what it was the first time"


def _control(control: LoadedControl, source: Path, settings: GenerateSettings) -> PlannedControl:
    """One control that reads `source`."""
    region, acts = control.spec.region, control.acts(settings)
    scales = {name: tuple(acts[name]) for name in ("step_scales", "residual_scales")}
    return PlannedControl(
        condition=control.condition.name,
        plugin=find_entry(control.condition.name).provider,
        options=dict(control.options),
        source=_file(source),
        weights=WeightsRecord(
            **asdict(_file(control.weights)),
            given=control.given,
            config=_file(control.config) if control.config else None,
        ),
        region=_file(Path(region)) if region else None,
        **(acts | scales),
    )


def _edit(to_edit: ImageToEdit) -> EditRecord:
    """The image that is edited, its mask and the strength."""
    return EditRecord(
        image=_file(to_edit.path),
        mask=_file(to_edit.mask_path) if to_edit.mask_path else None,
        strength=to_edit.strength,
    )


def _own_settings(settings: GenerateSettings) -> dict[str, Any]:
    of_controls = {f"control_{name}" for name in ACTS}
    return {name: value for name, value in asdict(settings).items() if name not in of_controls}


def _fields(record: PlannedRecord | PlannedControl) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _file(path: Path) -> FileRecord:
    """A file by its name and its content."""
    about = path.stat()
    return FileRecord(name=path.name, sha256=_sha256_of(path, about.st_size, about.st_mtime_ns))


@cache
def _sha256_of(path: Path, size: int, changed: int) -> str:
    """The sha256 of a file as it is now; weights of gigabytes are read once, not for each image."""
    return known_sha256(path)


@cache
def _base_sha256(weights: Path | None) -> str:
    return known_sha256(weights) if weights else ""
