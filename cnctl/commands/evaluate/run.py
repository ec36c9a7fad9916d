"""`cnctl evaluate`: how well images obey their hints, and with which of several ControlNets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cnctl.commands.evaluate.cases import (
    Case,
    Cases,
    Output,
    count_other_aspects,
    make_cases,
    match_outputs,
    open_examples,
    read_outputs,
)
from cnctl.commands.evaluate.report import write_pages
from cnctl.commands.evaluate.request import EvaluateRequest
from cnctl.commands.evaluate.result import DOCUMENT, PAGE, PLOT, Evaluation
from cnctl.commands.evaluate.scores import add_distances, open_meters, score_set
from cnctl.commands.generate.events import Event
from cnctl.commands.generate.prompts import DEFAULT_PROMPT, default_prompt
from cnctl.commands.generate.request import ControlSpec, GenerateRequest
from cnctl.commands.generate.run import generate
from cnctl.commands.shared.events import FailedImage, Loading, Note, Stage, ignore
from cnctl.commands.shared.weights import NamedControl, check_controls, open_base
from cnctl.data.urls import without_credentials
from cnctl.errors import CnctlError, SomeInputsFailed
from cnctl.hints.detector import Detector
from cnctl.hints.metrics import find_metric
from cnctl.hints.options import check_options, parse_options
from cnctl.images import check_folder, check_output, find_images, read_size, write_same
from cnctl.models.device import pick_device
from cnctl.models.quantize import check_library
from cnctl.plugin import Condition
from cnctl.registry import get_condition
from cnctl.training.checkpoints import lock_folder

JOBS = "jobs.jsonl"
HINTS = "hints"
ENOUGH = 10
"""Hints below which an interval says little."""
ENOUGH_FOR_FID = 2048
"""Features; a covariance of fewer pictures is singular."""

OnEvent = Callable[[Note | Loading | Stage], None]
Sets = dict[str, list[Output]]


def evaluate(request: EvaluateRequest, *, on_event: OnEvent = ignore) -> Evaluation:
    """Measure how well pictures obey their hints, and write what was found into `request.out`.

    Fidelity is the condition's own metric between each hint and the hint detected again. Its mean
    has a bootstrap interval over hints; sets are compared hint by hint. Writes evaluation.json,
    plot.svg and report.html beside hints and images. An example that cannot be read is recorded in
    the result and left out. Raises OutputError where the folder has another evaluation's files, or
    another run uses it.
    """
    condition = get_condition(request.condition)
    options = check_options(condition, parse_options(condition, request.options))
    _check(request)
    with lock_folder(Path(request.out)):
        return _measure(request, condition, options, on_event)


def _measure(
    request: EvaluateRequest,
    condition: Condition,
    options: Mapping[str, Any],
    on_event: OnEvent,
) -> Evaluation:
    device = pick_device(request.device)
    meters = open_meters(request.metrics, clip_model=request.clip_model, device=device)
    detector, on_event = Detector(condition, device=str(device)), _without_repeats(on_event)
    if request.data is None:
        cases, sets = _read_sets(request, detector)
    else:
        cases, base = _cases(request, detector, options, on_event)
        if request.outputs:
            cases, sets = _match_sets(request, cases)
        else:
            sets = _generate_sets(request, cases.cases, base, on_event)
    for text in _warnings(request, cases, sets):
        on_event(Note(text))
    scored = [
        score_set(name, outputs, cases, condition, meters, on_event=on_event)
        for name, outputs in sets.items()
    ]
    found = Evaluation(
        condition=condition.name,
        metric=find_metric(condition.metric),
        cases=cases.cases,
        sets=add_distances(scored, cases, meters),
        folder=Path(request.out),
        failed=cases.failed,
    )
    write_pages(found, cases, channels=condition.stored_channels)
    return found


def _check(request: EvaluateRequest) -> None:
    """CnctlError where the request makes no sense, OutputError where nothing can be written."""
    if request.data is None and not request.outputs:
        raise CnctlError("nothing to evaluate", hint="name --data, for example --data scenes:64")
    for given, flag in ((request.weights, "--control"), (request.configs, "--config")):
        if request.outputs and given:
            raise CnctlError(
                f"{flag} is for images that evaluate makes", hint="leave out --outputs"
            )
    _weights(request)
    if request.data is None and request.ready_hint:
        raise CnctlError("--hint is for a folder of hints", hint="name it with --data")
    for names, flag in ((request.weights, "--control"), (request.outputs, "--outputs")):
        if len({*map(str, names)}) != len(names):
            raise CnctlError(f"one {flag} is named twice", hint="name each once")
    if {"fid", "kid"} & {*request.metrics} and (request.data is None or request.ready_hint):
        raise CnctlError("FID and KID compare with photographs", hint="name them with --data")
    out = Path(request.out)
    for name in (DOCUMENT, PAGE, PLOT):
        check_output(out / name, overwrite=request.overwrite or request.resume)
    check_folder(out)


def _weights(request: EvaluateRequest) -> list[tuple[str, Path | str]]:
    """The weights of each set, and their config; "" for the base's own, and for none."""
    weights, configs = request.weights or [""], request.configs
    if configs and len(configs) != len(weights):
        raise CnctlError(
            f"{len(configs)} --config for {len(weights)} --control",
            hint="give one for each, in the same order, or none",
        )
    return [*zip(weights, configs or [""] * len(weights), strict=True)]


def _read_sets(request: EvaluateRequest, detector: Detector) -> tuple[Cases, Sets]:
    """The images of `cnctl generate` in folders, and the cases that they name."""
    cases: dict[str, Case] = {}
    sets: Sets = {}
    for name, folder in zip(names_of_sets(request.outputs), request.outputs, strict=True):
        own, sets[name] = read_outputs(Path(folder), detector.condition)
        cases |= {case.id: case for case in own}
    found = Cases(cases=[*cases.values()], detect=lambda image, options: detector(image, **options))
    return found, sets


def _cases(
    request: EvaluateRequest,
    detector: Detector,
    options: Mapping[str, Any],
    on_event: OnEvent,
) -> tuple[Cases, str]:
    """The cases of a data set, and the name of the base that generates their images."""
    assert request.data is not None
    note = partial(_note, on_event)
    condition = detector.condition
    base, side, prompt = "", request.settings.get("resolution"), DEFAULT_PROMPT
    if request.outputs:
        side = side or min(read_size(find_images(request.outputs)[0].path))
    else:
        opened = open_base(
            request.base, device=request.device, dtype=request.dtype, weights=False, note=note
        )
        # Before the first one's images are made.
        if request.quantize:
            check_library(request.quantize)
        named = [
            NamedControl(condition, weights, Path(config) if config else None)
            for weights, config in _weights(request)
            if weights
        ]
        check_controls(request.base, named)
        base, side = opened.name, side or opened.resolution
        prompt = default_prompt(opened.defaults)
    cases = make_cases(
        open_examples(
            request.data,
            condition,
            columns=request.columns,
            ready=request.ready_hint,
            side=side,
            note=note,
        ),
        detector,
        options=options,
        prompt=prompt if request.prompt is None else request.prompt,
        side=side,
        folder=Path(request.out) / HINTS,
        overwrite=request.overwrite,
    )
    if not cases.cases:
        why = next(iter(cases.failed.values()), "every hint is empty")
        data = without_credentials(request.data)
        raise CnctlError(f"--data {data} gives no hint: {why}", hint="try other options")
    return cases, base


def _match_sets(request: EvaluateRequest, cases: Cases) -> tuple[Cases, Sets]:
    """The images of folders, each with the name of its example."""
    sets: Sets = {}
    failed = dict(cases.failed)
    for name, folder in zip(names_of_sets(request.outputs), request.outputs, strict=True):
        sets[name], missing = match_outputs(Path(folder), cases.cases)
        failed |= missing
    return replace(cases, failed=failed), sets


def _generate_sets(
    request: EvaluateRequest, cases: Sequence[Case], base: str, on_event: OnEvent
) -> Sets:
    """Generate a set of images by each ControlNet, from the same hints, prompts and seeds."""
    out = Path(request.out)
    jobs = [
        {
            "image": f"{HINTS}/{case.hint.name}",
            "prompt": case.prompt,
            "seed": request.seed + number * request.count,
            "name": case.id,
        }
        for number, case in enumerate(cases)
    ]
    lines = "".join(json.dumps(job, ensure_ascii=False) + "\n" for job in jobs)
    content = lines.encode("utf-8", "backslashreplace")
    write_same(out / JOBS, content, overwrite=request.overwrite)
    names = names_of_sets(request.weights) if request.weights else [base]
    shared = GenerateRequest(
        [ControlSpec(condition=request.condition)],
        jobs=out / JOBS,
        prompt="",
        negative_prompt=request.negative_prompt,
        ready_hint=True,
        base=request.base or base,
        count=request.count,
        settings=request.settings,
        batch_size=request.batch_size,
        low_memory=request.low_memory,
        quantize=request.quantize,
        overwrite=request.overwrite,
        resume=request.resume,
        device=request.device,
        dtype=request.dtype,
    )
    of_hint = {case.hint: case.id for case in cases}
    sets: Sets = {}
    for name, (weights, config) in zip(names, _weights(request), strict=True):
        images = generate(
            replace(
                shared,
                weights=[weights] if weights else [],
                configs=[config] if config else [],
                out=out / _folder(name),
            ),
            on_event=partial(_forward, f"generating {name}", on_event),
        )
        sets[name] = [
            Output(case=of_hint[image.hint], seed=image.record.seed, path=image.path)
            for image in images
        ]
    return sets


def _forward(stage: str, on_event: OnEvent, event: Event) -> None:
    """Report an event of `generate` as one of this command."""
    match event:
        case Note() | Loading():
            on_event(event)
        case Stage():
            on_event(replace(event, what=stage))
        case FailedImage(error=error):
            raise SomeInputsFailed(error)


def _note(on_event: OnEvent, text: str) -> None:
    on_event(Note(text))


def names_of_sets(given: Sequence[Path | str]) -> list[str]:
    """The names of sets: as many last parts of their paths as make them differ."""
    parts = [Path(name).parts for name in given]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len({*names}) == len(names):
            return names
    return [str(name) for name in given]


def _folder(name: str) -> str:
    return f"outputs/{name.replace('/', '-')}"


def _warnings(request: EvaluateRequest, cases: Cases, sets: Sets) -> Iterator[str]:
    if cases.empty:
        yield f"{cases.empty} hints are empty and left out: nothing can obey them"
    if request.data is not None and request.outputs:
        for name, outputs in sets.items():
            if count := count_other_aspects(outputs, cases):
                yield (
                    f"{count} of {len(outputs)} images of {name} have another aspect ratio than "
                    "their examples; they are cut to the square in their middle"
                )
    if len(cases.cases) < ENOUGH:
        yield f"an interval over fewer than {ENOUGH} hints says little; take more"
    if "fid" in request.metrics and len(cases.cases) < ENOUGH_FOR_FID:
        yield f"FID of fewer than {ENOUGH_FOR_FID} pictures is biased upwards; compare KID"


def _without_repeats(on_event: OnEvent) -> OnEvent:
    """The callback without notes that it has been called with before."""
    reported: set[Note] = set()

    def report(event: Note | Loading | Stage) -> None:
        if isinstance(event, Note):
            if event in reported:
                return
            reported.add(event)
        on_event(event)

    return report
