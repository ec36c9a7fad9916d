"""`cnctl generate --from X.png`: the request that made an image, read from its record."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from cnctl.commands.generate.controls import defer_to
from cnctl.commands.generate.record import (
    ControlRecord,
    FileRecord,
    ImageRecord,
    damaged,
    hint_sha256,
    read_record,
)
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.shared.typed_json import from_json
from cnctl.errors import CnctlError, MissingError, shown
from cnctl.images import read_hint
from cnctl.settings import GenerateSettings
from cnctl.system.cores import cores

KEPT = (
    *("settings", "out", "name", "overwrite", "resume", "device"),
    *("private", "save_steps", "low_memory", "compile"),
)
"""Fields that are always taken from the new request."""


def replay(path: Path, asked: GenerateRequest) -> GenerateRequest:
    """The request that made this image, with the changes that `asked` makes.

    Hints and images to edit are looked for by their names, beside the image and in the working
    folder. Raises MissingError where one is not found, CnctlError where the image has no record.
    """
    record = read_record(path)
    changes = {
        field.name: value
        for field in fields(GenerateRequest)
        if field.name not in KEPT and _is_set(value := getattr(asked, field.name), field.default)
    }
    settings = {name: value for name, value in asked.settings.items() if value is not None}
    made = _recorded(record, path, asked)
    # Where weights lie on this machine changes nothing.
    unchanged = not settings and changes.keys() <= {"base", "weights", "configs"}
    if "controls" not in changes:
        changes["controls"] = [
            spec if isinstance(spec, str) else defer_to(settings, spec) for spec in made.controls
        ]
    changes["settings"] = {**made.settings, **settings}
    in_batch = made.in_batch if unchanged and not asked.low_memory else (0, 1)
    return replace(made, **changes, in_batch=in_batch, origin=record)


def _is_set(value: Any, default: Any) -> bool:
    """Whether a request sets this field; an empty list does not."""
    is_empty = isinstance(value, list | tuple | Mapping) and not value
    return not is_empty and value != default


def _recorded(record: ImageRecord, path: Path, asked: GenerateRequest) -> GenerateRequest:
    """The request as the record has it, but for what `asked` gives, which need not be found."""
    edit = record.edit
    other_images = bool(asked.images)
    return GenerateRequest(
        controls=[] if asked.controls else [_spec(c, path, other_images) for c in record.controls],
        prompt=record.prompt,
        negative_prompt=record.negative_prompt,
        prompt_mode=None,
        ready_hint=not other_images and not asked.controls,
        options=_options(record) if other_images and len(record.controls) == 1 else (),
        weights=() if asked.controls else _weights(record, path),
        configs=() if asked.controls or asked.configs else _configs(record, path),
        loras=() if asked.loras else _loras(record, path),
        embeddings=() if asked.embeddings else _embeddings(record, path),
        image=find_beside(edit.image.name, path) if edit and not asked.image else None,
        mask=find_beside(edit.mask.name, path) if edit and edit.mask and not asked.mask else None,
        strength=edit.strength if edit else None,
        base=_beside(record.base, path),
        seed=record.seed,
        settings=_settings(record, path),
        called="" if other_images or asked.controls else _stem(record),
        out=asked.out,
        name=asked.name,
        overwrite=asked.overwrite,
        resume=asked.resume,
        private=asked.private,
        save_steps=asked.save_steps,
        low_memory=asked.low_memory,
        compile=asked.compile,
        device=asked.device,
        dtype=record.dtype,
        quantize=record.quantized or None,
        size=record.size,
        threads=record.threads if 0 < record.threads <= cores() else None,
        in_batch=(record.batch.index, record.batch.size),
    )


def _settings(record: ImageRecord, path: Path) -> dict[str, Any]:
    """The settings of a record; CnctlError names one that there is not, or of another type."""
    types = get_type_hints(GenerateSettings)
    for name, value in record.settings.items():
        if name not in types:
            raise CnctlError(
                f"{shown(path)} was made with the setting {name!r}, which this version of cnctl "
                "does not have",
                hint=f"install cnctl {record.version}, which made it",
            )
        try:
            from_json(types[name], value, name)
        except ValueError as error:
            raise damaged(path, error) from error
    return dict(record.settings)


def _spec(control: ControlRecord, path: Path, other_images: bool) -> ControlSpec:
    return ControlSpec(
        condition=control.condition,
        source=None if other_images else _find_hint(control.hint, path),
        scale=control.scale,
        start=control.start,
        end=control.end,
        mode=control.mode,
        step_scales=control.step_scales,
        residual_scales=control.residual_scales,
        region=find_beside(control.region.name, path) if control.region else None,
    )


def _options(record: ImageRecord) -> list[str]:
    return [f"{name}={value}" for name, value in record.controls[0].options.items()]


def _stem(record: ImageRecord) -> str:
    names = "+".join(control.condition for control in record.controls)
    return f"{Path(record.controls[0].source.name).stem}-{names}"


def _loras(record: ImageRecord, path: Path) -> list[str]:
    return [f"{find_beside(lora.name, path)}:{lora.scale}" for lora in record.loras]


def _embeddings(record: ImageRecord, path: Path) -> list[str]:
    return [f"{one.word}={find_beside(one.name, path)}" for one in record.embeddings]


def _weights(record: ImageRecord, path: Path) -> list[str]:
    """One name for each control, or none where all belong to the base."""
    names = [_beside(control.weights.given, path) for control in record.controls]
    return names if any(names) else []


def _configs(record: ImageRecord, path: Path) -> list[str]:
    """The config.json of each control, "" without one; or none where no control has one."""
    configs = [control.weights.config for control in record.controls]
    return [str(find_beside(c.name, path)) if c else "" for c in configs] if any(configs) else []


def _beside(name: str, image: Path) -> str:
    """A name of weights; the path of a file or folder of that name beside the image."""
    return str(image.parent / name) if name and (image.parent / name).exists() else name


def _find_hint(hint: FileRecord, image: Path) -> Path:
    """The hint by its name, else by its content under whatever name, beside an image or here."""
    with suppress(MissingError):
        return find_beside(hint.name, image)
    wanted = Path(hint.name).suffix.lower()
    for folder in dict.fromkeys((image.parent, Path())):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() == wanted and _has_content(path, hint.sha256):
                return path
    raise MissingError(
        f"{shown(image)} was made from {hint.name}, which is neither beside it nor here",
        hint="copy it there; or name it with --hint, or the image to detect it in",
    )


def _has_content(path: Path, sha256: str) -> bool:
    """Whether a file is the hint whose pixels have this sha256, in any number of channels."""
    for channels in (3, 1, 4):
        with suppress(CnctlError):
            if hint_sha256(read_hint(path, channels=channels)) == sha256:
                return True
    return False


def find_beside(name: str, image: Path) -> Path:
    """The file of this name beside an image, or in the working folder."""
    for folder in (image.parent, Path()):
        if (folder / name).is_file():
            return folder / name
    raise MissingError(
        f"{shown(image)} was made from {name}, which is neither beside it nor here",
        hint="copy it there",
    )
