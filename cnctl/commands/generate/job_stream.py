"""`cnctl generate --jobs -`: jobs as they come, with the networks kept in memory between them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnctl.commands.generate.check import check_run
from cnctl.commands.generate.controls import parse_controls
from cnctl.commands.generate.events import OnEvent
from cnctl.commands.generate.plan import plan_run
from cnctl.commands.generate.request import GenerateRequest
from cnctl.commands.generate.tasks import parse_object, parse_size
from cnctl.commands.shared.events import FailedImage, ignore, notes
from cnctl.errors import CnctlError
from cnctl.settings import GenerateSettings
from cnctl.settings.declaration import declarations
from cnctl.settings.values import value_from_document
from cnctl.system.lines import decode

if TYPE_CHECKING:
    from cnctl.commands.generate.generated import GeneratedImage
    from cnctl.commands.generate.models import Models

TEXTS = {
    "image": "images",
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "edit": "image",
    "mask": "mask",
}
"""Keys of a job that are text, and the field of the request that each replaces."""
NUMBERS = ("seed", "count")
KEYS = (
    *("image", "prompt", "negative_prompt", "name", *NUMBERS, "size", "cond", "control", "out"),
    *("edit", "mask", "strength"),
)


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What came of one job: its images, or why there are none.

    number: of its line, from 1. failed: those of its inputs that gave no image.
    """

    number: int
    images: Sequence[GeneratedImage] = ()
    failed: Sequence[FailedImage] = ()
    error: CnctlError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        document: dict[str, Any] = {"job": self.number}
        document["images"] = [image.as_dict() for image in self.images]
        document["failed"] = [{"image": one.image, "error": one.error} for one in self.failed]
        if self.error:
            document["error"] = str(self.error)
            document["hint"] = self.error.hint
            document["exit_code"] = self.error.exit_code
        return document


def generate_jobs(
    request: GenerateRequest,
    lines: Iterable[str | bytes],
    *,
    on_event: OnEvent = ignore,
) -> Iterator[JobResult]:
    """Do each job when its line comes, and yield its result before the next line is read.

    request: what all jobs share; its base, adapters, device and dtype are loaded at once. lines: a
    JSON object each: `image`, `prompt`, `negative_prompt`, `name`, `seed`, `count`, `size` ("WxH"),
    `cond` (as the option, or a list) with `control` (its weights, or a list), `out`, an image to
    `edit` with `mask` and `strength`, and settings by name, each in place of the request's. Blank
    lines are skipped.
    An error of one job is in its result; CnctlError where the request's own base cannot be loaded.
    """
    from cnctl.commands.generate.models import load_models  # imports torch, which takes seconds

    models = load_models(request, on_event)
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _run(number, line, request, models, on_event)


def _run(
    number: int, line: str | bytes, request: GenerateRequest, models: Models, on_event: OnEvent
) -> JobResult:
    from cnctl.commands.generate.batches import make_images
    from cnctl.commands.generate.kept import kept_images
    from cnctl.commands.generate.setup import set_up

    made: list[GeneratedImage] = []
    try:
        job = read_job(line, request, where=f"job {number}")
        setup = set_up(check_run(plan_run(job, notes(on_event)), on_event), on_event, models=models)
        made += kept_images(setup)
        made.extend(make_images(setup, [image for image in setup.images if not image.done]))
    except CnctlError as error:
        return JobResult(number=number, images=made, error=error)
    return JobResult(number=number, images=made, failed=setup.failures.failed)


def read_job(line: str | bytes, shared: GenerateRequest, *, where: str) -> GenerateRequest:
    """The request of one job; CnctlError where the line is not one. where: it, in messages."""
    job = parse_object(decode(line, where) if isinstance(line, bytes) else line, where)
    _check_keys(job, where)
    changes: dict[str, Any] = {TEXTS[key]: _text(job, key, where) for key in TEXTS.keys() & job}
    if "image" in job:
        changes["images"] = [changes["images"]]
    changes |= {key: _whole_number(job, key, where) for key in job.keys() & {*NUMBERS}}
    if "name" in job:
        changes["called"] = _text(job, "name", where)
    if "out" in job:
        changes["out"] = _folder(job, where)
    if "strength" in job:
        setting = declarations(GenerateRequest)["strength"]
        changes["strength"] = value_from_document(setting, job["strength"], f"{where}: strength")
    if "size" in job:
        changes["size"] = parse_size(_text(job, "size", where))
    if "cond" in job:
        changes |= {"controls": parse_controls(_texts(job, "cond", where)), "weights": ()}
        changes["configs"] = ()
    if "control" in job:
        changes["weights"] = _texts(job, "control", where)
    return replace(
        shared, jobs=None, settings={**shared.settings, **_settings(job, where)}, **changes
    )


def _check_keys(job: Mapping[str, Any], where: str) -> None:
    known = {*KEYS, *declarations(GenerateSettings)}
    if unknown := sorted(job.keys() - known):
        raise CnctlError(
            f"{where} has {unknown[0]!r}",
            hint=f"a job may have {', '.join((*KEYS, *declarations(GenerateSettings)))}",
        )


def _settings(job: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = declarations(GenerateSettings)
    return {
        name: value_from_document(known[name], job[name], f"{where}: {name}")
        for name in known.keys() & job
    }


def _text(job: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(job[key], str):
        raise CnctlError(f"{where} has {key} {json.dumps(job[key])}", hint=f"give {key} as text")
    return str(job[key])


def _folder(job: Mapping[str, Any], where: str) -> Path:
    text = _text(job, "out", where)
    if text == "-":
        raise CnctlError(f"{where} has out '-'", hint="give a folder or a .png")
    return Path(text)


def _texts(job: Mapping[str, Any], key: str, where: str) -> list[str]:
    given = [job[key]] if isinstance(job[key], str) else job[key]
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise CnctlError(
            f"{where} has {key} {json.dumps(given)}", hint=f"give {key} as text, or a list of it"
        )
    return given


def _whole_number(job: Mapping[str, Any], key: str, where: str) -> int:
    if not isinstance(job[key], int) or isinstance(job[key], bool):
        raise CnctlError(f"{where} has {key} {json.dumps(job[key])}", hint="give a whole number")
    return int(job[key])
