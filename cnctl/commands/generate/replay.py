"""`cnctl generate --from X.png`: the request that made an image, read out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cnctl.commands.generate.controls import ACTS, ControlSpec, open_to
from cnctl.commands.generate.record import hint_sha256
from cnctl.commands.generate.setup import GenerateRequest
from cnctl.errors import CnctlError, MissingError, shown
from cnctl.images import read_hint, read_metadata
from cnctl.settings import GenerateSettings

KEPT = (
    *("settings", "out", "name", "overwrite", "resume", "device"),
    *("private", "save_steps", "low_memory"),
)
"""Fields of a request that are taken as they are asked for."""


def replay(path: Path, asked: GenerateRequest) -> GenerateRequest:
    """The request that made this image, with whatever `asked` says otherwise.

    Hints and edited images are looked for by their names, beside the image and in the working
    folder. Raises MissingError where one is not there, CnctlError where the image says nothing.
    """
    record = read_record(path)
    changes = {
        field.name: value
        for field in fields(GenerateRequest)
        if field.name not in KEPT and _is_said(value := getattr(asked, field.name), field.default)
    }
    settings = {name: value for name, value in asked.settings.items() if value is not None}
    made = _recorded(record, path, asked)
    # Where weights lie on this machine changes nothing.
    unchanged = not settings and changes.keys() <= {"base", "weights"}
    if "controls" not in changes:
        changes["controls"] = [
            spec if isinstance(spec, str) else open_to(settings, spec) for spec in made.controls
        ]
    changes["settings"] = {**made.settings, **settings}
    in_batch = made.in_batch if unchanged and not asked.low_memory else (0, 1)
    return replace(made, **changes, in_batch=in_batch, origin=record)


def read_record(path: Path) -> dict[str, Any]:
    """The JSON that `cnctl generate` has written into an image."""
    try:
        record = json.loads(read_metadata(path)["cnctl"])
        record["controls"], record["batch"]
    except (KeyError, ValueError, TypeError) as error:
        raise CnctlError(
            f"{shown(path)} does not say how it was made",
            hint="give a PNG of cnctl generate that was written with its metadata",
        ) from error
    return record


def _is_said(value: Any, default: Any) -> bool:
    """Whether a request says this of itself; no list that is empty does."""
    is_empty = isinstance(value, list | tuple | Mapping) and not value
    return not is_empty and value != default


def _recorded(record: Mapping[str, Any], path: Path, asked: GenerateRequest) -> GenerateRequest:
    """The request as the record has it, but for what is given anew and need not be found."""
    known = {field.name for field in fields(GenerateSettings)}
    edit = record.get("edit", {})
    anew = bool(asked.images)
    return GenerateRequest(
        controls=[] if asked.controls else [_spec(c, path, anew) for c in record["controls"]],
        prompt=record["prompt"],
        negative_prompt=record["negative_prompt"],
        prompt_mode=None,
        ready_hint=not anew and not asked.controls,
        options=_options(record) if anew and len(record["controls"]) == 1 else (),
        weights=() if asked.controls else _weights(record, path),
        loras=() if asked.loras else _loras(record, path),
        embeddings=() if asked.embeddings else _embeddings(record, path),
        image=None if asked.image or not edit else find_beside(edit["image"]["name"], path),
        mask=None if asked.mask or "mask" not in edit else find_beside(edit["mask"]["name"], path),
        strength=edit.get("strength"),
        base=_beside(record["base"], path),
        seed=record["seed"],
        settings={name: value for name, value in record.items() if name in known},
        called="" if anew or asked.controls else _stem(record),
        out=asked.out,
        name=asked.name,
        overwrite=asked.overwrite,
        resume=asked.resume,
        private=asked.private,
        save_steps=asked.save_steps,
        low_memory=asked.low_memory,
        device=asked.device,
        dtype=record["dtype"],
        size=tuple(record["size"]) if "size" in record else None,
        in_batch=(record["batch"]["index"], record["batch"]["size"]),
    )


def _spec(control: Mapping[str, Any], path: Path, anew: bool) -> ControlSpec:
    return ControlSpec(
        condition=control["condition"],
        source=None if anew else _find_hint(control["hint"], path),
        **{name: control[name] for name in ACTS},
        step_scales=tuple(control.get("step_scales", ())),
        residual_scales=tuple(control.get("residual_scales", ())),
        region=find_beside(control["region"]["name"], path) if "region" in control else None,
    )


def _options(record: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in record["controls"][0]["options"].items()]


def _stem(record: Mapping[str, Any]) -> str:
    controls = record["controls"]
    names = "+".join(control["condition"] for control in controls)
    return f"{Path(controls[0]['source']['name']).stem}-{names}"


def _loras(record: Mapping[str, Any], path: Path) -> list[str]:
    return [f"{find_beside(x['name'], path)}:{x['scale']}" for x in record.get("loras", [])]


def _embeddings(record: Mapping[str, Any], path: Path) -> list[str]:
    return [f"{x['word']}={find_beside(x['name'], path)}" for x in record.get("embeddings", [])]


def _weights(record: Mapping[str, Any], path: Path) -> list[str]:
    """One name for each control, or none where all belong to the base."""
    names = [_beside(control["weights"]["given"], path) for control in record["controls"]]
    return names if any(names) else []


def _beside(name: str, image: Path) -> str:
    """A name of weights; the path of a file or folder of that name beside the image."""
    return str(image.parent / name) if name and (image.parent / name).exists() else name


def _find_hint(hint: Mapping[str, str], image: Path) -> Path:
    """The hint by its name, else by its content under whatever name, beside an image or here."""
    with suppress(MissingError):
        return find_beside(hint["name"], image)
    wanted = Path(hint["name"]).suffix.lower()
    for folder in dict.fromkeys((image.parent, Path())):
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() == wanted and _has_content(path, hint["sha256"]):
                return path
    raise MissingError(
        f"{shown(image)} was made from {hint['name']}, which is neither beside it nor here",
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
