"""The tasks of a request: each image with each prompt at each point of a sweep."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnctl.commands.generate.outputs import Task
from cnctl.errors import CnctlError, shown
from cnctl.images import ImageFile
from cnctl.settings import GenerateSettings, parse_setting
from cnctl.system.lines import as_text, read_lines

JOB_KEYS = ("image", "prompt", "negative_prompt", "seed", "name")


def list_tasks(
    images: Sequence[ImageFile | None],
    prompts: Sequence[str],
    *,
    conditions: str,
    negative_prompt: str = "",
    called: str = "",
) -> list[Task]:
    """Each image with each prompt.

    called: the name of the images, in place of their source's.
    """
    return [
        Task(
            image=image.path if image else None,
            input=called or (image.path.stem if image else ""),
            conditions=conditions,
            folder=image.relative.parent if image else Path(),
            prompt=prompt,
            negative_prompt=negative_prompt,
            variant={"prompt": number} if len(prompts) > 1 else {},
        )
        for image in images
        for number, prompt in enumerate(prompts, 1)
    ]


def read_jobs(path: Path, *, conditions: str, prompt: str, negative_prompt: str = "") -> list[Task]:
    """The jobs of a file, one JSON object per line, paths relative to the file.

    Keys: image, prompt, negative_prompt, seed, name. The arguments give what a line leaves out.
    """
    tasks = [
        _read_job(job, path, f"{shown(path)}, line {number}", conditions)
        for number, job in _read_lines(
            path, {"prompt": prompt, "negative_prompt": negative_prompt, "seed": None, "name": ""}
        )
    ]
    if not tasks:
        raise CnctlError(f"{shown(path)} holds no job", hint="write one JSON object per line")
    return tasks


def sweep_over(tasks: Sequence[Task], sweep: Mapping[str, Sequence[Any]]) -> list[Task]:
    """Each task at each point of the sweep: settings by name, and the values of each."""
    points = [dict(zip(sweep, each, strict=True)) for each in itertools.product(*sweep.values())]
    return [replace(task, variant={**task.variant, **point}) for task in tasks for point in points]


def parse_sweep(assignments: Sequence[str]) -> dict[str, list[Any]]:
    """["control_scale=0.2,0.6"] -> {"control_scale": [0.2, 0.6]}; else CnctlError."""
    sweep = {}
    for text in assignments:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values:
            raise CnctlError(
                f"--sweep {text!r} is not NAME=VALUE,VALUE", hint="for example --sweep steps=10,20"
            )
        sweep[name] = [parse_setting(GenerateSettings, name, v.strip()) for v in values.split(",")]
    return sweep


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of "768x512"; CnctlError where it is not a size."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise CnctlError(f"--size {text!r} is not WIDTHxHEIGHT", hint="for example --size 768x512")
    return int(match[1]), int(match[2])


def parse_object(line: str, where: str) -> dict[str, Any]:
    """The JSON object of a line; CnctlError where it is not one."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CnctlError(f"{where} is not a JSON object")
    return found


def _read_job(job: Mapping[str, Any], path: Path, where: str, conditions: str) -> Task:
    if unknown := sorted(job.keys() - {*JOB_KEYS}):
        known = ", ".join(JOB_KEYS)
        raise CnctlError(
            f"{where} has {unknown[0]!r}",
            hint=f"a line of a file may have {known}; one for --jobs - may have more",
        )
    texts = [job.get(name) for name in ("image", "prompt", "negative_prompt", "name")]
    if not all(isinstance(text, str) for text in texts):
        raise CnctlError(
            f"{where} is not a job", hint="give an image, and all but the seed as text"
        )
    seed = job["seed"]
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise CnctlError(f"{where} has seed {seed!r}", hint="give a whole number")
    return Task(
        image=path.parent / job["image"],
        input=job["name"] or Path(job["image"]).stem,
        conditions="" if job["name"] else conditions,
        prompt=as_text(job["prompt"], f"{where}: the prompt"),
        negative_prompt=as_text(job["negative_prompt"], f"{where}: the negative prompt"),
        seed=seed,
    )


def _read_lines(path: Path, defaults: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and the object of each line that is not blank, with the defaults filled in."""
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        yield number, {**defaults, **parse_object(line, f"{shown(path)}, line {number}")}
